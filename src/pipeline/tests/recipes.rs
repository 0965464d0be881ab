//! Changes of the recipe while parts are on their way.

use std::time::{Duration, Instant};

use crate::output::line::{Line, Settings as LineSettings, Times};
use crate::pipeline::{Settings, Trigger};

use super::world::*;

/// Times that no other change has.
fn times(travel: u64, pulse: u64, deadline: u64) -> Times {
    Times { travel: ms(travel), pulse: ms(pulse), deadline: ms(deadline) }
}

/// Changes the recipe, and lets the test go on once the change has begun. Returns whether the stages took it.
fn changing(world: &World, package: &str, to: Times, meanwhile: impl FnOnce()) -> bool {
    let stages = stages(&world.clock, &world.behavior, package);
    std::thread::scope(|scope| {
        let change = scope.spawn(|| world.pipeline().change(stages, to));
        let begun = Instant::now();
        while world.pipeline().shared.shift().times() != to && !change.is_finished() {
            assert!(begun.elapsed() < ms(60_000), "the change does not begin");
            std::thread::yield_now();
        }
        meanwhile();
        change.join().unwrap()
    })
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from)
    }
}

#[test]
fn each_part_has_the_stages_and_the_pulse_of_its_trigger_through_many_changes() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let world = World::new();
        world.behavior.lock().unwrap().residuals = ms(15);
        let start = world.clock.now();
        let mut present = ("first".to_owned(), times(200, 20, 150));
        let (mut expected, mut rejects) = (Vec::new(), Vec::new());
        for i in 0..60 {
            let bad = dice.roll(0, 2) == 0;
            let at = (world.clock.now() - start).as_millis();
            world.part(if bad { BAD } else { GOOD });
            expected.push((if bad { "reject" } else { "pass" }.to_owned(), present.0.clone()));
            if bad {
                let from = at + present.1.travel.as_millis();
                rejects.push((from, from + present.1.pulse.as_millis()));
            }
            let pause = dice.roll(30, 60);
            if dice.roll(0, 3) > 0 {
                world.run(pause);
                continue;
            }
            // The frame of the part comes before or after.
            let before = dice.roll(1, 20);
            world.run(before);
            let travel = dice.roll(150, 900);
            // No two are the same.
            let to = Times { pulse: Duration::from_nanos(20_000_000 + i), ..times(travel, 20, travel - 50) };
            present = (format!("after {i}"), to);
            assert!(changing(&world, &present.0, to, || world.run(pause)));
        }
        world.run(1_500);
        let mut told = world.told();
        told.sort_by_key(|record| record.part);
        let told: Vec<_> = told.iter().map(|record| (word(record), record.engine.package.clone())).collect();
        assert_eq!(told, expected, "seed {seed}");
        assert_eq!(world.edges(Line::Reject, start), edges_of(rejects), "seed {seed}");
    }
}

/// The pulses of these times at the gate, as edges.
fn edges_of(mut rejects: Vec<(u128, u128)>) -> Vec<(u128, bool)> {
    rejects.sort_unstable();
    let mut pulses: Vec<(u128, u128)> = Vec::new();
    for (from, to) in rejects {
        match pulses.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => pulses.push((from, to)),
        }
    }
    pulses.into_iter().flat_map(|(from, to)| [(from, true), (to, false)]).collect()
}

#[test]
fn no_change_lets_a_part_pass_whatever_else_happens() {
    for seed in 10..16 {
        let mut dice = Dice(seed);
        let world = World::new();
        let start = world.clock.now();
        let mut present = ("first".to_owned(), times(200, 20, 150));
        // Each part: whether it is bad, when it was triggered, and under what.
        let mut parts = Vec::new();
        let trigger = |dice: &mut Dice, under: &(String, Times)| {
            let bad = dice.roll(0, 2) == 0;
            let at = (world.clock.now() - start).as_millis();
            world.part(if bad { BAD } else { GOOD });
            (bad, at, under.clone())
        };
        for i in 0..50 {
            match dice.roll(0, 12) {
                0 => world.scene.set_plugged(false),
                1 => world.scene.set_silent(true),
                2 => world.pipeline().control().set_halted(true).unwrap(),
                3 => world.scene.lose(1),
                4 => world.behavior.lock().unwrap().features = ms(60),
                5 => world.behavior.lock().unwrap().classify = ms(90),
                _ => {
                    world.scene.set_plugged(true);
                    world.scene.set_silent(false);
                    world.pipeline().control().set_halted(false).unwrap();
                    *world.behavior.lock().unwrap() = Behavior::default();
                }
            }
            parts.push(trigger(&mut dice, &present));
            let (before, pause) = (dice.roll(1, 20), dice.roll(30, 60));
            world.run(before);
            if dice.roll(0, 3) > 0 {
                world.run(pause);
                continue;
            }
            let travel = dice.roll(150, 900);
            let to = Times { pulse: Duration::from_nanos(20_000_000 + i), ..times(travel, 20, travel - 50) };
            let next = (format!("after {i}"), to);
            let taken = changing(&world, &next.0, to, || {
                world.run(pause);
                parts.push(trigger(&mut dice, &next));
                world.run(200);
            });
            if taken {
                present = next;
            }
        }
        world.run(3_000);
        let mut told = world.told();
        told.sort_by_key(|record| record.part);
        assert_eq!(
            told.iter().map(|r| r.part).collect::<Vec<_>>(),
            (1..=parts.len() as u64).collect::<Vec<_>>()
        );
        let mut rejects = Vec::new();
        for (record, (bad, at, under)) in told.iter().zip(parts) {
            let verdict = word(record);
            let part = format!("seed {seed}, part {}: {verdict}", record.part);
            assert!(!bad || verdict != "pass", "{part}");
            assert!(bad || verdict != "reject", "{part}");
            if record.has_inspection {
                assert_eq!(record.engine.package, under.0, "{part}");
            }
            if verdict != "pass" {
                let from = at + under.1.travel.as_millis();
                rejects.push((from, from + under.1.pulse.as_millis()));
            }
        }
        assert_eq!(world.edges(Line::Reject, start), edges_of(rejects), "seed {seed}");
    }
}

#[test]
fn a_change_ends_while_the_camera_is_being_opened_for_ever() {
    let world = World::new();
    *world.opening.lock().unwrap() = ms(3_600_000);
    world.scene.set_plugged(false);
    world.run(30);
    world.scene.set_plugged(true);
    // The camera's thread is in the driver.
    world.run(500);
    world.part(BAD);
    world.run(10);
    assert!(changing(&world, "second", times(300, 20, 250), || world.run(1_000)));
    // The gate and the change look for it, one of them first.
    let told = world.verdicts().last().unwrap().1.clone();
    assert!(["late", "unpaired"].contains(&told.as_str()), "{told}");
}

#[test]
fn a_part_keeps_its_patience_when_the_next_recipe_has_less() {
    let trigger = Trigger { frame_after_ms: 60.0, frame_within_ms: Some(75.0), ..Trigger::software() };
    let world = World::with(Options { trigger, ..Options::default() });
    world.part(BAD);
    world.run(10);
    assert!(changing(&world, "second", times(100, 20, 40), || world.run(400)));
    assert_eq!(world.verdicts(), [(1, "reject".to_owned())]);
}

#[test]
fn a_second_frame_is_a_fault_after_a_change_to_a_shorter_deadline() {
    let trigger = Trigger { fires_camera: true, frame_within_ms: Some(30.0), ..Trigger::software() };
    let line =
        LineSettings { travel_ms: 600.0, pulse_ms: 20.0, deadline_ms: Some(500.0), ..Default::default() };
    let world = World::with(Options { trigger, line, period: ms(12), ..Options::default() });
    world.scene.set_silent(true);
    world.run(100);
    world.scene.set_silent(false);
    world.part(GOOD);
    assert!(changing(&world, "second", times(100, 10, 20), || world.run(60)));
    world.scene.set_silent(true);
    world.run(700);
    assert_eq!(world.verdicts()[0], (1, "unpaired".to_owned()));
}

#[test]
fn a_refused_recipe_leaves_no_part_and_no_time_behind() {
    let trigger = Trigger { frame_after_ms: 30.0, frame_within_ms: Some(45.0), ..Trigger::software() };
    let world = World::with(Options { trigger, ..Options::default() });
    world.behavior.lock().unwrap().features = ms(2_000);
    for _ in 0..6 {
        world.part(BAD);
        world.run(50);
    }
    world.told();
    // One part waits for its frame when the change is given up.
    assert!(!changing(&world, "second", times(2_000, 20, 20), || {
        world.part(BAD);
    }));
    world.behavior.lock().unwrap().features = ms(0);
    world.run(15_000);
    let told = world.told();
    let last = told.iter().find(|record| record.part == 7).unwrap();
    assert_eq!(word(last), "overflow");
    // Parts have the times of before again.
    world.part(GOOD);
    world.run(300);
    let told = world.told();
    assert_eq!((word(&told[0]).as_str(), told[0].engine.package.as_str()), ("pass", "first"));
}

#[test]
fn a_trigger_that_becomes_known_after_the_change_is_a_fault() {
    let world = World::new();
    world.run(3);
    let before = world.clock.now();
    world.run(2);
    assert!(changing(&world, "second", times(300, 20, 250), || {}));
    world.scene.show(picture(BAD));
    let shared = &world.pipeline().shared;
    shared.trigger_at(&mut shared.pairing().unwrap(), before);
    world.run(500);
    let told = world.told();
    assert_eq!(told.len(), 1);
    // Stages of the next recipe never judge a part of the one before.
    assert_eq!(word(&told[0]), "unpaired");
    assert_eq!(world.edges(Line::Reject, before), [(200, true), (220, false)]);
}

#[test]
fn a_free_running_camera_that_is_too_fast_keeps_no_recipe_waiting() {
    for every in [10, 20, 30, 40, 50, 80] {
        let options =
            Options { trigger: Trigger::free(), settings: Settings::default(), ..Options::default() };
        let world = World::with(options);
        world.behavior.lock().unwrap().features = ms(every);
        world.run(1_000);
        world.told();
        assert!(changing(&world, "second", times(300, 20, 250), || world.run(2_000)));
        world.run(1_000);
        let told = world.told();
        let last = told.last().unwrap();
        assert_eq!(last.engine.package, "second", "one frame in {every} ms");
        let first = told.iter().position(|record| record.engine.package == "second").unwrap();
        assert!(first <= 8, "{first} frames of before, one in {every} ms");
    }
}
