//! No pulse is missed in silence: what the gate does when the process stands still, when its line breaks, and
//! when a verdict is late.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use crate::clock::{Clock, Simulation};
use crate::output::line::{
    Deviation, Energize, Line, Lines, NoLines, OnFault, Pulse, Schedule, Settings as LineSettings,
    SimulatedLines,
};
use crate::pipeline::{Pipeline, Settings, Setup, Trigger};
use crate::record::{State, Status};
use proptest::prelude::*;

use super::world::*;

/// A line with pulses of 20 ms, 200 ms after the trigger.
fn world(change: impl FnOnce(&mut LineSettings)) -> World {
    let mut options = Options::default();
    change(&mut options.line);
    World::with(options)
}

/// Missed pulses, late ones, and what is told of them.
fn alarm(world: &World) -> (u64, u64, String) {
    let now = world.status().snapshot();
    let text = now.problems.get("gate").map(|p| p.text.clone()).unwrap_or_default();
    assert_eq!(now.latched, !text.is_empty());
    assert_eq!(world.state() == State::Operational, text.is_empty());
    (now.missed_pulses, now.late_pulses, text)
}

#[test]
fn a_pulse_that_was_not_given_is_told_until_a_person_has_seen_it() {
    let world = world(|_| {});
    world.part(BAD);
    world.run(150);
    // Longer than the part is at the gate.
    world.simulation.stall(ms(120)).unwrap();
    world.run(300);
    let (missed, late, text) = alarm(&world);
    assert_eq!((missed, late), (1, 0));
    assert!(text.contains("the pulse of part 1 was not given in time: it may have passed"), "{text}");
    let since = world.clock.now();
    world.run(2_000);
    assert!(world.edges(Line::Healthy, since + ms(100)).is_empty(), "the line is not healthy");
    // Parts are judged and served meanwhile, and the next one that is missed is told, too.
    world.part(BAD);
    world.run(300);
    assert_eq!(world.edges(Line::Reject, since).len(), 2);
    assert_eq!(world.state(), State::Error);
    world.part(BAD);
    world.run(150);
    world.simulation.stall(ms(120)).unwrap();
    world.run(300);
    let (missed, _, text) = alarm(&world);
    assert_eq!(missed, 2);
    assert!(text.contains("each pulse of parts 1, 3 was not given in time"), "{text}");
    // It is over when a person says so.
    world.pipeline().control().set_halted(false).unwrap();
    world.run(300);
    assert_eq!(alarm(&world), (2, 0, String::new()));
    assert!(!world.edges(Line::Healthy, world.clock.now() - ms(200)).is_empty());
}

#[test]
fn a_pulse_that_begins_too_late_is_missed_and_one_within_the_tolerance_is_not() {
    // The tolerance is 5 ms.
    for (stopped, missed) in [(4, 0), (6, 1), (15, 1)] {
        let world = world(|_| {});
        let start = world.clock.now();
        world.part(BAD);
        world.run(199);
        world.simulation.stall(ms(1 + stopped)).unwrap();
        world.run(300);
        assert_eq!(alarm(&world).0, missed, "{stopped} ms late");
        // Better late than never.
        let late = u128::from(stopped);
        assert_eq!(world.edges(Line::Reject, start), [(200 + late, true), (220, false)]);
    }
}

#[test]
fn a_pulse_that_ends_too_late_is_told() {
    let world = world(|_| {});
    world.part(BAD);
    world.run(210);
    world.simulation.stall(ms(100)).unwrap();
    world.run(300);
    let (missed, late, text) = alarm(&world);
    assert_eq!((missed, late), (0, 1));
    assert!(text.contains("the pulse of part 1 began or ended too late"), "{text}");
}

#[test]
fn what_was_told_of_the_line_before_stays_told() {
    let world = world(|_| {});
    world.status().latch(
        Status::GATE,
        "the pulse of part 17 was not given in time; check these parts, then resume the line",
    );
    world.part(BAD);
    world.run(150);
    world.simulation.stall(ms(120)).unwrap();
    world.run(300);
    let (missed, _, text) = alarm(&world);
    assert_eq!(missed, 1);
    assert!(text.contains("part 17 was not") && text.contains("of part 1 was not"), "{text}");
    assert_eq!(text.matches("resume").count(), 1, "{text}");
}

#[test]
fn a_part_that_is_on_its_way_when_the_line_stops_is_missed() {
    let mut world = world(|line| line.travel_ms = 2_000.0);
    world.part(BAD);
    world.run(100);
    let status = std::sync::Arc::clone(world.pipeline().status());
    world.stop();
    assert_eq!(status.snapshot().missed_pulses, 1);
    assert!(status.problems()["gate"].text.contains("part 1"), "{:?}", status.problems());
}

#[test]
fn where_a_fault_stops_the_line_a_missed_pulse_does() {
    let world = world(|line| line.on_fault = OnFault::Stop);
    world.part(BAD);
    world.run(150);
    world.simulation.stall(ms(120)).unwrap();
    world.run(300);
    assert_eq!((world.state(), world.status().snapshot().missed_pulses), (State::Halted, 1));
    world.part(GOOD);
    world.run(300);
    assert_eq!(world.verdicts().last().unwrap().1, "halted");
    world.pipeline().control().set_halted(false).unwrap();
    world.run(100);
    assert_eq!(world.state(), State::Operational);
}

#[test]
fn a_part_that_is_gone_before_its_verdict_is_missed() {
    let world = world(|_| {});
    world.behavior.lock().unwrap().residuals = ms(1_000);
    world.part(GOOD);
    world.run(100);
    world.simulation.stall(ms(200)).unwrap();
    world.run(300);
    assert_eq!(world.verdicts(), [(1, "late".into())]);
    assert_eq!((alarm(&world).0, world.edges(Line::Reject, world.start).len()), (1, 0));
}

#[test]
fn every_part_of_a_long_pulse_is_checked_by_itself() {
    let world = world(|_| {});
    for _ in 0..4 {
        world.part(BAD);
        world.run(12);
    }
    world.run(100);
    // 148 ms after the first trigger; at the gate from 200, 212, 224, 236, each for 20 ms.
    world.simulation.stall(ms(65)).unwrap();
    world.run(300);
    let (missed, _, text) = alarm(&world);
    assert_eq!(missed, 1, "{text}");
    assert!(text.contains("the pulse of part 1 was not"), "{text}");
}

#[test]
fn a_line_that_breaks_or_takes_its_time_is_a_missed_pulse() {
    let broken = world(|_| {});
    broken.part(BAD);
    broken.run(150);
    broken.lines.set_broken(true);
    broken.run(150);
    assert!(broken.status().problems()["line"].text.contains("broken"));
    assert_eq!(broken.status().snapshot().missed_pulses, 1);
    broken.lines.set_broken(false);
    broken.run(300);
    assert!(!broken.status().problems().contains_key("line"), "it works again");
    assert_eq!(alarm(&broken).0, 1, "but the part is gone");

    // Broken when the pulse is to end: a good part behind may have been rejected.
    let stuck = world(|_| {});
    stuck.part(BAD);
    stuck.run(210);
    stuck.lines.set_broken(true);
    stuck.run(50);
    stuck.lines.set_broken(false);
    stuck.run(300);
    let (missed, late, _) = alarm(&stuck);
    assert_eq!((missed, late, stuck.lines.level(Line::Reject)), (0, 1, false));

    let slow = world(|_| {});
    slow.part(BAD);
    slow.run(150);
    slow.lines.set_slow(ms(7));
    slow.run(300);
    assert_eq!(alarm(&slow).0, 1);
}

fn to_pass(line: &mut LineSettings) {
    line.energize = Energize::ToPass;
    line.pulse_ms = 100.0;
}

#[test]
fn the_gate_does_not_open_late() {
    let world = world(to_pass);
    let start = world.clock.now();
    world.part(GOOD);
    world.run(190);
    world.simulation.stall(ms(30)).unwrap();
    world.run(300);
    assert_eq!(world.edges(Line::Reject, start), [], "whoever is there by now need not be that part");
    let (missed, late, text) = alarm(&world);
    assert_eq!((missed, late), (0, 1), "{text}");
    // A line that is too slow to open is closed again as soon as it has opened.
    let since = world.clock.now();
    world.part(GOOD);
    world.run(150);
    world.lines.set_slow(ms(7));
    world.run(300);
    assert_eq!(world.edges(Line::Reject, since), [(207, true), (214, false)]);
    assert_eq!(alarm(&world).1, 2);
    world.lines.set_slow(ms(0));
    // In time the next time.
    let start = world.clock.now();
    world.part(GOOD);
    world.run(400);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (300, false)]);
}

#[test]
fn a_gate_that_was_open_for_a_bad_part_is_told_and_closed_at_once() {
    let world = world(to_pass);
    let start = world.clock.now();
    world.part(GOOD);
    world.run(80);
    world.part(BAD);
    world.run(140);
    // The gate is open from 200 to 300, and the bad part there from 280 to 380.
    world.simulation.stall(ms(90)).unwrap();
    world.run(300);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (310, false)]);
    let (missed, _, text) = alarm(&world);
    assert_eq!(missed, 1);
    assert!(text.contains("the pulse of part 2 was not given in time"), "{text}");
}

#[test]
fn a_part_without_a_verdict_closes_the_gate_whoever_opened_it() {
    let world = world(|line| {
        to_pass(line);
        line.deadline_ms = None;
    });
    let start = world.clock.now();
    world.part(GOOD);
    world.run(50);
    world.scene.set_silent(true);
    world.part(GOOD);
    world.run(500);
    assert_eq!(world.edges(Line::Reject, start), [(200, true), (250, false)]);
    assert_eq!(alarm(&world).0, 0);
}

#[test]
fn without_a_gate_no_pulse_is_missed() {
    let (clock, simulation) = Simulation::start();
    let pipeline =
        Pipeline::start(setup(&clock, Box::new(NoLines), LineSettings::default()), |_| {}).unwrap();
    simulation.advance(ms(50)).unwrap();
    pipeline.trigger().unwrap();
    simulation.advance(ms(400)).unwrap();
    simulation.stall(ms(300)).unwrap();
    simulation.advance(ms(300)).unwrap();
    let now = pipeline.status().snapshot();
    assert_eq!((now.parts, now.missed_pulses, now.late_pulses, now.latched), (1, 0, 0, false));
    drop(simulation);
}

/// A line whose camera sees a bad part.
fn setup(clock: &Clock, lines: Box<dyn Lines>, line: LineSettings) -> Setup {
    Setup {
        clock: clock.clone(),
        stages: stages(clock, &Shared::default(), "first"),
        camera: Box::new(SimulatedOpener {
            scene: Scene::new(picture(BAD), Duration::from_millis(10)),
            clock: clock.clone(),
        }),
        framing: Framing::default(),
        health: HealthSettings::default(),
        trigger: Trigger::software(),
        halts: Default::default(),
        lines,
        line,
        settings: Settings::default(),
    }
}

/// A part of the property: when it arrives and for how long, when it is told of and decided, and whether it
/// is to be rejected.
type Planned = (u64, u64, u64, u64, bool);

/// One run of a schedule as its driver runs it, millisecond by millisecond: what it told, what the line's
/// level was, and when the driver ran.
struct Ran {
    told: BTreeMap<u64, Deviation>,
    /// `None` after it could not be set.
    level: Vec<Option<bool>>,
    runs: Vec<u64>,
}

const TOLERANCE: u64 = 4;
const GRACE: u64 = 2;
const END: u64 = 700;

fn within(spans: &[(u64, u64)], t: u64) -> bool {
    spans.iter().any(|&(begin, length)| begin <= t && t < begin + length)
}

fn ran(parts: &[Planned], stalls: &[(u64, u64)], broken: &[(u64, u64)], energize: Energize) -> Ran {
    let start = Instant::now();
    let at = |t: u64| start + ms(t);
    let mut schedule = Schedule::new(energize, ms(TOLERANCE), start);
    let mut orders: Vec<(u64, usize, bool)> = Vec::new();
    for (i, &(_, _, expected, decided, _)) in parts.iter().enumerate() {
        orders.extend([(expected, i, false), (decided.max(expected), i, true)]);
    }
    orders.sort_by_key(|order| (order.0, order.2));
    let mut orders = orders.into_iter().peekable();
    let mut ran = Ran { told: BTreeMap::new(), level: Vec::new(), runs: Vec::new() };
    let (mut level, mut wake) = (Some(false), 0);
    for t in 0..END {
        let due = wake <= t || orders.peek().is_some_and(|order| order.0 <= t);
        if due && !within(stalls, t) {
            ran.runs.push(t);
            let mut told = Vec::new();
            while let Some((_, i, decided)) = orders.next_if(|order| order.0 <= t) {
                let (from, length, _, _, reject) = parts[i];
                if decided {
                    told.extend(schedule.decide(i as u64, reject).map(|deviation| (i as u64, deviation)));
                } else {
                    schedule.expect(Pulse { part: i as u64, from: at(from), to: at(from + length) });
                }
            }
            loop {
                let wanted = schedule.level(at(t));
                if schedule.is(wanted) {
                    break;
                }
                let set = !within(broken, t);
                schedule.driven(wanted, at(t), at(t), set);
                level = set.then_some(wanted);
                if !set {
                    break;
                }
            }
            schedule.check(at(t), |part, deviation| told.push((part, deviation)));
            for (part, deviation) in told {
                assert!(ran.told.insert(part, deviation).is_none(), "part {part} is told twice");
            }
            wake = schedule.next(at(t)).map_or(END, |next| next.duration_since(start).as_millis() as u64);
            if level.is_none() {
                wake = wake.min(t + 10);
            }
        }
        ran.level.push(level);
    }
    ran
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Against looking at every millisecond: each part that was not served as planned is told, with what it
    /// may mean, and none other.
    #[test]
    fn what_was_driven_otherwise_than_planned_is_told_and_nothing_else(
        parts in prop::collection::vec((30u64..300, 8u64..40, 0u64..120, 0u64..90, any::<bool>()), 0..10),
        stalls in prop::collection::vec((0u64..400, 1u64..80), 0..3),
        broken in prop::collection::vec((0u64..400, 1u64..40), 0..2),
        to_pass: bool,
    ) {
        let energize = if to_pass { Energize::ToPass } else { Energize::ToReject };
        // Most parts are told of well before they arrive, some late.
        let parts: Vec<Planned> = parts.iter().map(|&(from, length, ahead, took, reject)| {
            let expected = (from + 20).saturating_sub(ahead);
            (from, length, expected, expected + took, reject)
        }).collect();
        let ran = ran(&parts, &stalls, &broken, energize);
        let first = |from: u64| ran.runs.iter().copied().find(|run| *run >= from).unwrap_or(END);
        // Whether the driver takes it for one to be rejected at a time.
        let overdue = |p: &Planned, t: u64| {
            let begin = first((p.0 + GRACE).max(p.2));
            begin <= t && begin < first(p.3)
        };
        let rejects = |p: &Planned, t: u64| (p.4 && first(p.3) <= t) || overdue(p, t);
        let others = |i: usize| parts.iter().enumerate().filter(move |(k, _)| *k != i).map(|(_, p)| p);
        for (i, part) in parts.iter().enumerate() {
            let (from, to) = (part.0, part.0 + part.1);
            let told = ran.told.get(&(i as u64)).copied();
            if !part.4 && overdue(part, END) {
                prop_assert!(told.is_some(), "part {} is judged late", i);
                continue;
            }
            let rejecting = Some(!to_pass);
            let end = to + TOLERANCE;
            let long = |drives: &dyn Fn(&Planned, u64) -> bool| {
                let checked = first(end.max(part.2));
                let covered = others(i).any(|p| p.0 <= end && to < p.0 + p.1 && p.2 <= checked && drives(p, checked));
                (!covered && ran.level[end as usize] != Some(false)).then_some(Deviation::Late)
            };
            let expected = if part.4 {
                let missed = (from + TOLERANCE..to).any(|t| ran.level[t as usize] != rejecting);
                if missed { Some(Deviation::Missed) } else if to_pass { None } else { long(&rejects) }
            } else if to_pass {
                let closed = ran.runs.iter().any(|&run| {
                    let blocked = |t| parts.iter().any(|p| rejects(p, run) && p.0 <= t && t < p.0 + p.1 + TOLERANCE);
                    first(part.3) <= run && (from + TOLERANCE..to.min(run + 1)).any(|t| {
                        ran.level[t as usize] != Some(true) && !blocked(t)
                    })
                });
                let passes = |p: &Planned, t: u64| !p.4 && first(p.3) <= t && !overdue(p, t);
                // Of another part that was served wrongly, it is not seen from here whether the gate was open
                // for it.
                let served = |p: &Planned, t: u64| {
                    let index = parts.iter().position(|other| std::ptr::eq(other, p)).unwrap() as u64;
                    passes(p, t) && !ran.told.contains_key(&index)
                };
                if long(&passes) != long(&served) {
                    continue;
                }
                if closed { Some(Deviation::Late) } else { long(&passes) }
            } else {
                None
            };
            if from < first(part.2) {
                // Told of too late; who was beside it, and why the level was what it was, may be forgotten by
                // then.
                let missed = Some(Deviation::Missed);
                prop_assert_eq!(told == missed, expected == missed, "part {}", i);
                prop_assert!(expected.is_none() || told.is_some(), "part {}", i);
                continue;
            }
            // After a line that could not be set, either is right for what ends then.
            if ran.level[end as usize].is_some() || expected == Some(Deviation::Missed) {
                prop_assert_eq!(told, expected, "part {}", i);
            }
        }
        // The gate opens for a part that is there, and in time.
        for t in 1..END {
            if to_pass && ran.level[t as usize] == Some(true) && ran.level[t as usize - 1] != Some(true) {
                let opened = parts.iter().filter(|p| !p.4 && p.0 <= t && t < p.0 + p.1 && !overdue(p, t)).any(|p| {
                    let gone = parts.iter().filter(|q| rejects(q, t)).map(|q| q.0 + q.1).filter(|to| *to <= t);
                    t <= gone.max().unwrap_or(0).max(p.0) + TOLERANCE
                });
                prop_assert!(opened, "opened late, at {} ms", t);
            }
        }
    }
}

/// Says to a test in another process that it is the one that is stopped.
const STOPPED: &str = "WEAKREST_TEST_STOPPED";

/// With the real clock: the process stops itself while a bad part is at the gate.
#[test]
fn a_process_that_was_stopped_tells_what_it_missed() {
    if std::env::var_os(STOPPED).is_some() {
        return stop_yourself();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "pipeline::tests::gate::a_process_that_was_stopped_tells_what_it_missed",
        "--nocapture",
    ]);
    let output = child.env(STOPPED, "1").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn stop_yourself() {
    let clock = Clock::system();
    let line = LineSettings { travel_ms: 900.0, ..LineSettings::default() };
    let lines = SimulatedLines::new(clock.clone());
    let pipeline = Pipeline::start(setup(&clock, lines.handle(), line), |_| {}).unwrap();
    let status = pipeline.status();
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let limit = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < limit, "{what}: {:?}", status.problems());
            std::thread::sleep(ms(2));
        }
    };
    pipeline.trigger().unwrap();
    wait("no verdict", &|| status.snapshot().parts == 1);
    // Until the part is gone, however slow this machine is.
    let me = std::process::id();
    let script = format!("kill -STOP {me}; sleep 1; kill -CONT {me}");
    Command::new("sh").args(["-c", &script]).spawn().unwrap().wait().unwrap();
    wait("nothing is told", &|| status.problems().contains_key("gate"));
    assert_eq!((status.snapshot().missed_pulses, status.state()), (1, State::Error));
    pipeline.stop();
}

#[test]
fn what_a_dead_process_knew_of_is_rejected() {
    let world = World::new();
    let start = world.clock.now();
    world.pipeline().reject_unknown_parts(ms(220));
    world.run(50);
    world.part(GOOD);
    world.run(500);
    // 200 ms of travel, and a pulse of 20.
    assert_eq!(world.edges(Line::Reject, start), [(0, true), (220, false)]);
    assert_eq!(world.verdicts(), [(1, "pass".into())]);
    assert_eq!(world.state(), State::Operational);
}
