//! The fault table, as far as it needs no real device: what the line does, what is counted, how it recovers.

use std::sync::atomic::Ordering::Relaxed;

use crate::output::line::{Line, OnFault, Settings as LineSettings};
use crate::pipeline::Trigger;
use crate::record::State;
use crate::{Color, Frame};

use super::world::*;

fn fault(world: &World, kind: &str) -> u64 {
    world.status().snapshot().faults[kind]
}

#[test]
fn a_late_verdict_is_a_fault_and_the_late_one_is_discarded() {
    let world = World::new();
    world.behavior.lock().unwrap().residuals = ms(170);
    let start = world.clock.now();
    world.part(GOOD);
    world.run(1_000);
    assert_eq!(world.verdicts(), [(1, "late".into())]);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false)]);
    assert_eq!((fault(&world, "late"), world.status().snapshot().late_inspections), (1, 1));
    // And it goes on.
    world.behavior.lock().unwrap().residuals = ms(0);
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts(), [(2, "pass".into())]);
}

#[test]
fn parts_that_come_too_fast_are_faults_and_none_is_lost() {
    let world = World::new();
    world.behavior.lock().unwrap().residuals = ms(60);
    let burst = || {
        for _ in 0..30 {
            world.pipeline().trigger().unwrap();
            world.run(16);
        }
        world.run(2_000);
        let mut verdicts = world.verdicts();
        verdicts.sort();
        verdicts
    };
    let verdicts = burst();
    assert_eq!(verdicts.iter().map(|v| v.0).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    let overflow = verdicts.iter().filter(|v| v.1 == "overflow").count();
    assert!(overflow >= 10, "{verdicts:?}");
    assert!(verdicts.iter().any(|v| v.1 == "pass"), "{verdicts:?}");
    assert_eq!(fault(&world, "overflow"), overflow as u64);
    // As many pass the tenth time as the first: no buffer is lost on the way.
    let passed = verdicts.iter().filter(|v| v.1 == "pass").count();
    for again in 2..=10 {
        let verdicts = burst();
        assert_eq!(verdicts.len(), 30);
        assert_eq!(verdicts.iter().filter(|v| v.1 == "pass").count(), passed, "burst {again}");
    }
}

/// A burst within the triggers' queue, but with the queue to the stages full.
#[test]
fn a_frame_without_room_is_a_fault_and_its_buffer_is_used_again() {
    let line = LineSettings { travel_ms: 5_000.0, ..LineSettings::default() };
    let world = World::with(Options { line, period: ms(1), ..Options::default() });
    world.behavior.lock().unwrap().residuals = ms(50);
    for _ in 0..30 {
        for _ in 0..3 {
            world.pipeline().trigger().unwrap();
            world.run(2);
        }
        world.run(14);
    }
    world.run(6_000);
    let verdicts = world.verdicts();
    assert_eq!(verdicts.len(), 90);
    assert!(verdicts.iter().any(|v| v.1 == "overflow"));
    world.behavior.lock().unwrap().residuals = ms(0);
    for _ in 0..20 {
        world.part(GOOD);
        world.run(20);
    }
    world.run(6_000);
    assert!(world.verdicts().iter().all(|v| v.1 == "pass"));
}

#[test]
fn a_stage_that_hangs_makes_faults_and_ends_the_healthy_line_and_the_watchdog() {
    let world = World::new();
    world.run(1_000);
    let before = world.alive.load(Relaxed);
    assert!(before >= 8, "{before}");
    world.behavior.lock().unwrap().residuals = ms(20_000);
    let start = world.clock.now();
    for _ in 0..30 {
        world.part(GOOD);
        world.run(100);
    }
    let verdicts = world.verdicts();
    assert!(verdicts.len() >= 28 && verdicts.iter().all(|v| v.1 != "pass"), "{verdicts:?}");
    assert_eq!(world.state(), State::Error);
    assert!(world.status().problems().contains_key("residuals thread"));
    let alive = world.alive.load(Relaxed);
    world.run(3_000);
    assert_eq!(world.alive.load(Relaxed), alive, "the watchdog is fed although a stage hangs");
    let toggles = world.edges(Line::Healthy, start + ms(1_200));
    assert!(toggles.is_empty(), "{toggles:?}");
    assert!(!world.lines.level(Line::Healthy));
    // It ends after all, and the line goes on by itself.
    world.behavior.lock().unwrap().residuals = ms(0);
    world.run(40_000);
    world.told();
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts().last().unwrap().1, "pass");
    assert_eq!(world.state(), State::Operational);
}

#[test]
fn a_camera_that_is_unplugged_makes_faults_until_it_is_back() {
    let world = World::new();
    world.scene.set_plugged(false);
    world.run(100);
    assert_eq!(world.state(), State::Error);
    world.part(GOOD);
    world.run(10);
    world.part(GOOD);
    world.run(200);
    assert_eq!(world.verdicts(), [(1, "camera".into()), (2, "camera".into())]);
    let healthy = world.clock.now();
    world.run(1_000);
    assert!(world.edges(Line::Healthy, healthy).is_empty());
    world.scene.set_plugged(true);
    world.run(6_000);
    assert_eq!((world.state(), world.scene.opened()), (State::Operational, 2));
    world.part(BAD);
    world.run(300);
    assert_eq!(world.verdicts(), [(3, "reject".into())]);
    assert!(world.status().snapshot().camera_losses >= 2);
}

#[test]
fn a_camera_that_falls_silent_is_opened_again() {
    for trigger in [Trigger::free(), Trigger::software()] {
        let world = World::with(Options { trigger, ..Options::default() });
        world.scene.set_silent(true);
        world.run(1_300);
        assert_eq!(world.state(), State::Error);
        world.scene.set_silent(false);
        world.run(3_000);
        assert_eq!(world.state(), State::Operational);
        assert!(world.scene.opened() >= 2);
    }
}

#[test]
fn a_part_whose_frame_does_not_come_is_a_fault_by_its_deadline() {
    let world = World::new();
    world.scene.set_silent(true);
    let start = world.clock.now();
    world.part(GOOD);
    world.run(160);
    assert_eq!(world.verdicts(), [(1, "unpaired".into())]);
    world.run(100);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false)]);
}

#[test]
fn pictures_that_cannot_be_trusted_are_faults_with_a_reason() {
    let world = World::new();
    for (brightness, kind) in [(0, "black"), (254, "over-exposed"), (GOOD, "pass")] {
        world.part(brightness);
        world.run(300);
        assert_eq!(world.verdicts()[0].1, kind);
    }
    world.scene.set_frozen(true);
    let kinds: Vec<String> = (0..4)
        .map(|_| {
            world.part(GOOD);
            world.run(300);
            world.verdicts()[0].1.clone()
        })
        .collect();
    assert_eq!(kinds[1..], ["frozen", "frozen", "frozen"], "{kinds:?}");
    world.scene.set_frozen(false);
    world.run(20);
    world.scene.show(Frame::new(2, 1, Color::Rgb, vec![50, 90, 80, 90, 60, 10]).unwrap());
    world.pipeline().trigger().unwrap();
    world.run(300);
    assert_eq!(world.verdicts()[0].1, "wrong-format");
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts()[0].1, "pass");
}

#[test]
fn a_score_that_is_no_number_is_a_fault() {
    let world = World::new();
    world.behavior.lock().unwrap().nan = true;
    let start = world.clock.now();
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts(), [(1, "not-finite".into())]);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false)]);
}

#[test]
fn a_stage_that_fails_is_a_fault_with_its_reason() {
    let world = World::new();
    world.behavior.lock().unwrap().fails = true;
    world.part(GOOD);
    world.run(300);
    let told = world.told();
    assert_eq!(word(&told[0]), "inspection");
    assert!(told[0].verdict.to_string().contains("the network failed"));
    assert!(told[0].frame().is_some() && told[0].inspection().is_none());
}

#[test]
fn a_clock_that_is_stepped_back_changes_nothing_but_the_records_time() {
    let world = World::new();
    let start = world.clock.now();
    world.part(BAD);
    world.run(60);
    world.simulation.step_wall(false, ms(3_600_000));
    world.part(BAD);
    world.run(500);
    let told = world.told();
    assert_eq!(told.iter().map(|r| word(r)).collect::<Vec<_>>(), ["reject", "reject"]);
    assert!(told[1].triggered < told[0].triggered);
    assert!(told[1].latency < ms(12));
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (220, false), (260, true), (280, false)]);
}

#[test]
fn where_a_fault_stops_the_line_a_person_has_to_resume_it() {
    let line = LineSettings { on_fault: OnFault::Stop, ..Options::default().line };
    let world = World::with(Options { line, ..Options::default() });
    world.part(0);
    world.run(300);
    assert_eq!(world.verdicts(), [(1, "black".into())]);
    assert_eq!(world.state(), State::Halted);
    let since = world.clock.now();
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts(), [(2, "halted".into())]);
    assert_eq!(world.edges(Line::Reject, since), [(200, true), (220, false)]);
    assert!(world.edges(Line::Healthy, since + ms(100)).is_empty());
    world.pipeline().control().set_halted(false).unwrap();
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts(), [(3, "pass".into())]);
    assert_eq!(world.state(), State::Operational);
}

#[test]
fn lines_that_cannot_be_driven_are_an_error_and_tried_again() {
    let world = World::new();
    world.lines.set_broken(true);
    world.part(BAD);
    world.run(305);
    assert_eq!(world.state(), State::Error);
    assert!(world.status().problems()["line"].text.contains("broken"));
    assert_eq!(world.status().snapshot().missed_pulses, 1);
    world.lines.set_broken(false);
    world.run(500);
    assert!(!world.status().problems().contains_key("line"));
    // The part that may have passed is for a person to find.
    world.pipeline().control().set_halted(false).unwrap();
    assert_eq!(world.state(), State::Operational);
    let since = world.clock.now();
    world.part(BAD);
    world.run(300);
    assert_eq!(world.edges(Line::Reject, since), [(200, true), (220, false)]);
}

#[test]
fn the_healthy_line_toggles_while_all_is_well() {
    let world = World::new();
    let since = world.clock.now();
    world.run(2_000);
    let edges = world.edges(Line::Healthy, since);
    assert!((19..=21).contains(&edges.len()), "{edges:?}");
}
