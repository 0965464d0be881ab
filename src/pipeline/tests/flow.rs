//! When all is well: each part its verdict, each verdict its pulse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::output::Output;
use crate::output::line::{Energize, Line, Settings as LineSettings, Times};
use crate::pipeline::Trigger;
use crate::record::{Record, State};

use super::world::*;

#[test]
fn every_part_gets_its_verdict_and_bad_ones_their_pulse() {
    let world = World::new();
    assert_eq!(world.state(), State::Operational);
    let mut expected = Vec::new();
    let mut pulses = Vec::new();
    let start = world.clock.now();
    for i in 0..50u64 {
        let bad = i % 3 == 1;
        let triggered = world.clock.now().duration_since(start).as_millis();
        let part = world.part(if bad { BAD } else { GOOD });
        expected.push((part, if bad { "reject".to_owned() } else { "pass".into() }));
        if bad {
            pulses.extend([(triggered + 200, true), (triggered + 220, false)]);
        }
        world.run(37);
    }
    world.run(500);
    assert_eq!(world.verdicts(), expected);
    assert_eq!(world.edges(Line::Reject, start), pulses);
    let told = world.status().snapshot();
    assert_eq!((told.parts, told.passes, told.rejects), (50, 33, 17));
    assert!(told.faults.values().all(|n| *n == 0), "{told:?}");
}

#[test]
fn two_parts_between_camera_and_gate_get_their_own_pulses() {
    let world = World::new();
    let start = world.clock.now();
    world.part(BAD);
    world.run(40);
    world.part(GOOD);
    world.run(40);
    world.part(BAD);
    world.run(400);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false), (280, true), (300, false)]);
}

#[test]
fn pulses_that_overlap_are_one() {
    let world = World::new();
    let start = world.clock.now();
    world.part(BAD);
    world.run(12);
    world.part(BAD);
    world.run(400);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (232, false)]);
}

#[test]
fn energized_to_pass_nothing_passes_without_a_verdict() {
    let line = LineSettings {
        energize: Energize::ToPass,
        travel_ms: 200.0,
        pulse_ms: 20.0,
        ..LineSettings::default()
    };
    let world = World::with(Options { line, ..Options::default() });
    let start = world.clock.now();
    world.part(GOOD);
    world.run(60);
    world.part(BAD);
    world.run(60);
    world.behavior.lock().unwrap().nan = true;
    world.part(GOOD);
    world.run(400);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false)]);
    assert_eq!(world.verdicts().len(), 3);
}

#[test]
fn a_free_running_camera_drops_the_oldest_frames_and_counts_them() {
    let world = World::with(Options { trigger: Trigger::free(), ..Options::default() });
    world.behavior.lock().unwrap().residuals = ms(25);
    world.run(2_000);
    let told = world.told();
    let parts: Vec<u64> = told.iter().map(|r| r.part).collect();
    assert!(parts.windows(2).all(|w| w[1] == w[0] + 1), "{parts:?}");
    assert!((78..=86).contains(&told.len()), "{}", told.len());
    let dropped = world.status().snapshot().dropped_frames;
    assert!((105..=130).contains(&dropped), "{dropped}");
    // The newest frames are inspected: none waits longer than the queue is long.
    let latest = told.last().unwrap().latency;
    assert!(latest <= ms(150), "{latest:?}");
    let error = world.pipeline().trigger().unwrap_err();
    assert!(error.to_string().contains("trigger.source"), "{error}");
}

#[test]
fn throughput_is_that_of_the_slowest_stage_and_latency_the_sum() {
    let world = World::with(Options { trigger: Trigger::free(), period: ms(5), ..Options::default() });
    *world.behavior.lock().unwrap() =
        Behavior { features: ms(10), residuals: ms(20), classify: ms(2), ..Behavior::default() };
    world.run(1_000);
    world.told();
    world.run(10_000);
    let parts = world.told().len();
    assert!((475..=501).contains(&parts), "{parts} parts where 500 were possible");

    let world = World::with(Options { period: ms(100), ..Options::default() });
    *world.behavior.lock().unwrap() =
        Behavior { features: ms(10), residuals: ms(20), classify: ms(2), ..Behavior::default() };
    world.run(50);
    let since = world.clock.now();
    world.part(GOOD);
    world.run(400);
    let frame_after = ms(100 - (since.duration_since(world.start).as_millis() % 100) as u64);
    assert_eq!(world.told()[0].latency, frame_after + ms(32));
}

#[test]
fn new_stages_take_over_between_two_parts() {
    let world = World::new();
    world.behavior.lock().unwrap().residuals = ms(15);
    let (mut first, mut second) = (0, 0);
    for i in 0..40 {
        if i == 20 {
            let stages = stages(&world.clock, &world.behavior, "second");
            world.pipeline().swap(stages);
        }
        world.part(GOOD);
        world.run(21);
    }
    world.run(300);
    let told = world.told();
    assert_eq!(told.len(), 40);
    for record in &told {
        assert_eq!(word(record), "pass");
        match record.engine.package.as_str() {
            "first" => first += 1,
            "second" => second += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(first + second, 40);
    assert_eq!(first, 20);
    assert!(told.is_sorted_by_key(|r| r.engine.package == "second"));
    let snapshot = world.status().snapshot();
    assert_eq!((snapshot.swaps, snapshot.engine.package.as_str()), (1, "second"));
}

#[test]
fn a_part_keeps_the_recipe_that_it_was_triggered_under() {
    let trigger = Trigger { frame_after_ms: 30.0, frame_within_ms: Some(45.0), ..Trigger::software() };
    let world = World::with(Options { trigger, ..Options::default() });
    let start = world.clock.now();
    world.part(BAD);
    world.run(40);
    world.part(BAD);
    world.run(20);
    // Its frame comes later.
    let other = Times { travel: ms(300), pulse: ms(40), deadline: ms(250) };
    let stages = stages(&world.clock, &world.behavior, "second");
    std::thread::scope(|scope| {
        let change = scope.spawn(|| world.pipeline().change(stages, other));
        let begun = std::time::Instant::now();
        while world.pipeline().shared.shift().times() != other {
            assert!(begun.elapsed() < ms(60_000), "the change does not begin");
            std::thread::yield_now();
        }
        world.run(40);
        world.part(BAD);
        world.run(500);
        assert!(change.join().unwrap());
    });
    let told = world.told();
    let packages: Vec<_> = told.iter().map(|record| (word(record), record.engine.package.as_str())).collect();
    let of = |package| ("reject".to_owned(), package);
    assert_eq!(packages, [of("first"), of("first"), of("second")]);
    let (first, third) =
        ([(200, true), (220, false), (240, true), (260, false)], [(400, true), (440, false)]);
    assert_eq!(world.edges(Line::Reject, start), [&first[..], &third].concat());
    // A later deadline and an earlier one.
    world.behavior.lock().unwrap().residuals = ms(200);
    let start = world.clock.now();
    world.part(BAD);
    world.run(400);
    let sooner = Times { deadline: ms(100), ..other };
    assert!(world.pipeline().change(super::world::stages(&world.clock, &world.behavior, "third"), sooner));
    world.part(BAD);
    world.run(500);
    let told = world.verdicts();
    let verdicts: Vec<_> = told.iter().map(|(_, verdict)| verdict.as_str()).collect();
    assert_eq!(verdicts, ["reject", "late"]);
    assert_eq!(world.edges(Line::Reject, start), [(300, true), (340, false), (700, true), (740, false)]);
}

#[test]
fn stages_that_hang_take_no_recipe_and_parts_keep_their_times() {
    let world = World::new();
    world.behavior.lock().unwrap().features = ms(600_000);
    // One part is in the stage, the others fill its queue.
    for _ in 0..6 {
        world.part(BAD);
        world.run(20);
    }
    let times = world.pipeline().shared.shift().times();
    let other = Times { travel: ms(300), ..times };
    assert!(!world.pipeline().change(stages(&world.clock, &world.behavior, "second"), other));
    assert_eq!(world.pipeline().shared.shift().times(), times);
}

#[test]
fn a_record_has_the_picture_and_the_times() {
    let world = World::new();
    world.part(BAD);
    world.run(300);
    let told = world.told();
    let record = &told[0];
    let frame = record.frame().unwrap();
    assert_eq!(frame.pixels()[300], picture(BAD).pixels()[300]);
    assert_eq!(record.inspection().unwrap().score, f32::from(picture(BAD).pixels()[300]));
    assert!(record.latency <= ms(11), "{:?}", record.latency);
}

/// An output that takes its time.
struct Slow {
    clock: crate::clock::Clock,
    passed_on: Arc<AtomicU64>,
}

impl Output for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn publish(&mut self, _: &Record) -> crate::Result<()> {
        self.clock.sleep_until(self.clock.now() + ms(500));
        self.passed_on.fetch_add(1, Relaxed);
        Ok(())
    }
}

#[test]
fn a_slow_subscriber_loses_the_oldest_records_and_delays_nobody() {
    let world = World::new();
    let slow = world.pipeline().subscribe(3);
    for _ in 0..20 {
        world.part(GOOD);
        world.run(20);
    }
    world.run(100);
    assert_eq!(slow.try_iter().map(|r| r.part).collect::<Vec<_>>(), [18, 19, 20]);
    assert_eq!(world.verdicts().len(), 20);
}

#[test]
fn a_slow_output_loses_records_counted_and_delays_nobody() {
    let passed_on = Arc::new(AtomicU64::new(0));
    let (clock, simulation) = crate::clock::Simulation::start();
    let slow = Slow { clock: clock.clone(), passed_on: Arc::clone(&passed_on) };
    let world = World::on(clock, simulation, Options { outputs: vec![Box::new(slow)], ..Options::default() });
    for _ in 0..200 {
        world.part(GOOD);
        world.run(20);
    }
    world.run(200);
    assert_eq!(world.verdicts().len(), 200);
    let snapshot = world.status().snapshot();
    let dropped = snapshot.outputs_dropped["slow"];
    assert!(dropped > 100, "{dropped}");
    assert!(snapshot.problems["outputs"].text.contains("slow 1"), "{:?}", snapshot.problems);
    assert!(passed_on.load(Relaxed) <= 10);
}

#[test]
fn stopping_serves_what_is_on_its_way_and_leaves_the_lines_safe() {
    let mut world = World::new();
    let start = world.clock.now();
    world.part(BAD);
    world.run(50);
    assert_eq!(world.verdicts(), [(1, "reject".into())]);
    world.part(GOOD);
    world.stop();
    // The camera is closed first, so this part may have had no frame any more.
    assert!(
        matches!(world.verdicts().as_slice(), [(2, verdict)] if verdict == "pass" || verdict == "stopped")
    );
    assert_eq!(world.edges(Line::Reject, start)[..2], [(200, true), (220, false)]);
    assert!(!world.lines.level(Line::Reject) && !world.lines.level(Line::Healthy));
}

#[test]
fn a_part_that_hangs_when_the_line_stops_is_a_fault() {
    let line = LineSettings { travel_ms: 5_000.0, ..LineSettings::default() };
    let mut world = World::with(Options { line, ..Options::default() });
    world.behavior.lock().unwrap().residuals = ms(60_000);
    world.part(GOOD);
    world.run(20);
    world.stop();
    assert_eq!(world.verdicts(), [(1, "stopped".into())]);
    assert!(!world.lines.level(Line::Healthy));
}
