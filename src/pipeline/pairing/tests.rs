use std::time::SystemTime;

use proptest::prelude::*;

use super::*;

const WITHIN: u64 = 50_000;

fn window(exclusive: bool) -> Window {
    let within = Duration::from_micros(WITHIN);
    Window { after: Duration::ZERO, early: false, within, arrival: within + millis(100), exclusive }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A pairing whose moments are milliseconds.
struct Bench {
    start: Instant,
    pairing: Pairing,
    faults: Vec<Fault>,
}

impl Bench {
    fn new(window: Window) -> Self {
        Bench { start: Instant::now(), pairing: Pairing::new(window, 4), faults: Vec::new() }
    }

    fn trigger(&mut self, part: u64, ms: u64) {
        let at = self.start + millis(ms);
        let result = self.pairing.trigger(Triggered {
            part,
            at,
            wall: SystemTime::UNIX_EPOCH,
            deadline: Duration::MAX,
        });
        self.faults.extend(result.err());
    }

    fn frame(&mut self, ms: u64) -> Option<u64> {
        self.captured(Captured::at(self.start + millis(ms)))
    }

    fn captured(&mut self, captured: Captured) -> Option<u64> {
        match self.pairing.frame(&captured, &mut self.faults) {
            Found::Part(part) => Some(part.part),
            _ => None,
        }
    }

    fn faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }
}

#[test]
fn the_first_frame_in_a_parts_window_is_its() {
    let mut bench = Bench::new(window(false));
    assert_eq!(bench.frame(5), None);
    bench.trigger(1, 10);
    assert_eq!(bench.frame(10), None, "taken at the trigger's moment, it shows the part too early");
    assert_eq!(bench.frame(43), Some(1));
    assert_eq!(bench.frame(55), None);
    bench.trigger(2, 60);
    assert_eq!(bench.frame(76), Some(2));
    assert_eq!(bench.faults(), []);
}

#[test]
fn a_part_whose_window_has_no_frame_does_not_take_the_next_parts() {
    let mut bench = Bench::new(window(false));
    bench.trigger(1, 10);
    bench.trigger(2, 200);
    assert_eq!(bench.frame(210), Some(2));
    assert_eq!(bench.faults(), [(1, Unpaired::NoFrame)]);
    // Without any frame it is given up in time.
    bench.trigger(3, 300);
    let at = |ms| bench.start + millis(ms);
    let (early, late) = (at(449), at(450));
    assert_eq!(bench.pairing.next_expiry(), Some(late));
    bench.pairing.expire(early, &mut bench.faults);
    assert_eq!(bench.faults(), []);
    bench.pairing.expire(late, &mut bench.faults);
    assert_eq!(bench.faults(), [(3, Unpaired::NoFrame)]);
    // What is in view then is the part that was triggered last.
    bench.trigger(4, 340);
    assert_eq!(bench.frame(345), Some(4));
}

#[test]
fn a_fired_cameras_late_frame_is_not_the_next_parts() {
    let mut bench = Bench::new(window(true));
    bench.trigger(1, 10);
    let late = bench.start + millis(160);
    bench.pairing.expire(late, &mut bench.faults);
    assert_eq!(bench.faults(), [(1, Unpaired::NoFrame)]);
    bench.trigger(2, 40);
    assert_eq!(bench.frame(45), None);
    assert_eq!(bench.faults(), [(2, Unpaired::Ambiguous)]);
    // The windows of both may be over now, and are not.
    bench.trigger(3, 80);
    assert_eq!(bench.frame(85), None);
    assert_eq!(bench.faults(), [(3, Unpaired::Ambiguous)]);
    bench.trigger(4, 140);
    assert_eq!(bench.frame(145), Some(4));
}

#[test]
fn a_frame_that_may_be_two_parts_is_neithers() {
    let mut bench = Bench::new(window(false));
    bench.trigger(1, 10);
    bench.trigger(2, 30);
    assert_eq!(bench.frame(40), None);
    assert_eq!(bench.faults(), [(1, Unpaired::Ambiguous), (2, Unpaired::Ambiguous)]);
    bench.trigger(3, 70);
    assert_eq!(bench.frame(75), Some(3));
}

#[test]
fn a_frame_of_the_next_triggers_moment_is_not_the_part_befores() {
    let mut bench = Bench::new(window(false));
    bench.trigger(1, 10);
    bench.trigger(2, 30);
    assert_eq!(bench.frame(30), None);
    assert_eq!(bench.faults(), [(1, Unpaired::Ambiguous)]);
    assert_eq!(bench.frame(40), Some(2));
}

#[test]
fn what_breaks_the_order_of_frames_is_a_fault_of_who_waits() {
    for (captured, why) in [
        (Captured { lost: 1, ..Captured::at(Instant::now()) }, Unpaired::Lost),
        (Captured { damaged: true, ..Captured::at(Instant::now()) }, Unpaired::Damaged),
        (Captured { at: None, ..Captured::at(Instant::now()) }, Unpaired::Unstamped),
    ] {
        let mut bench = Bench::new(window(false));
        bench.trigger(1, 10);
        let at = captured.at.map(|_| bench.start + millis(20));
        assert_eq!(bench.captured(Captured { at, ..captured }), None);
        assert_eq!(bench.faults(), [(1, why)]);
        bench.trigger(2, 100);
        assert_eq!(bench.frame(110), Some(2));
    }
    let mut bench = Bench::new(window(false));
    assert_eq!(bench.frame(20), None);
    bench.trigger(1, 30);
    assert_eq!(bench.frame(19), None);
    assert_eq!(bench.faults(), [(1, Unpaired::Disorder)]);
}

#[test]
fn a_trigger_that_is_known_too_late_gets_no_later_frame() {
    let mut bench = Bench::new(window(false));
    assert_eq!(bench.frame(20), None);
    bench.trigger(1, 15);
    assert_eq!(bench.faults(), [(1, Unpaired::Passed)]);
    assert_eq!(bench.frame(40), None);
}

#[test]
fn a_fired_camera_gives_one_frame_per_trigger() {
    let mut bench = Bench::new(window(true));
    bench.trigger(1, 10);
    assert_eq!(bench.frame(15), Some(1));
    assert_eq!(bench.frame(18), None);
    assert_eq!(bench.faults(), [(1, Unpaired::TooMany)]);
    bench.trigger(2, 100);
    assert_eq!(bench.frame(105), Some(2));
    // The next part comes before the window of this one closes.
    bench.trigger(3, 120);
    assert_eq!(bench.frame(125), None);
    assert_eq!(bench.faults(), [(2, Unpaired::TooMany), (3, Unpaired::Ambiguous)]);
    let stray = Captured::at(bench.start + millis(500));
    assert_eq!(bench.pairing.frame(&stray, &mut bench.faults), Found::Stray);
}

#[test]
fn more_parts_than_there_is_room_for_are_faults_and_block_their_windows() {
    let mut bench = Bench::new(window(false));
    (1..=5).for_each(|part| bench.trigger(part, 10));
    assert_eq!(bench.faults(), [(5, Unpaired::Overflow)]);
    assert_eq!(bench.frame(20), None);
    assert_eq!(bench.faults().len(), 4);
}

/// How hostile a line is. Shares are per mille.
#[derive(Debug, Clone)]
struct Line {
    exclusive: bool,
    /// From exposure to stamp, in µs, where the trigger fires the camera.
    lag: u64,
    period: u64,
    /// Mean distance between parts.
    distance: u64,
    bounces: u64,
    doubles: u64,
    losses: u64,
    counted: bool,
    damages: u64,
    stalls: u64,
    swaps: u64,
    restarts: u64,
    seed: u64,
}

fn lines() -> impl Strategy<Value = Line> {
    let shares = || prop_oneof![2 => Just(0u64), 3 => 1u64..60];
    let times = (any::<bool>(), 0u64..15_000, 3_000u64..33_000, 40_000u64..300_000);
    let faults = (shares(), shares(), shares(), any::<bool>(), shares(), shares(), shares(), shares());
    (times, faults, any::<u64>()).prop_map(|(times, faults, seed)| {
        let (exclusive, lag, period, distance) = times;
        let (bounces, doubles, losses, counted, damages, stalls, swaps, restarts) = faults;
        Line {
            exclusive,
            lag,
            period,
            distance,
            bounces,
            doubles,
            losses,
            counted,
            damages,
            stalls,
            swaps,
            restarts,
            seed,
        }
    })
}

/// xorshift64*: the same line for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

#[derive(Debug, Clone, Copy)]
struct Shot {
    /// The part in view when it was exposed.
    shows: Option<usize>,
    stamp: u64,
    arrives: u64,
    number: u32,
    damaged: bool,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The physical part behind a trigger.
    Trigger(usize),
    Shot(Shot),
}

/// Everything that happens at a line, in the order in which it is known.
fn happenings(line: &Line, parts: usize) -> Vec<(u64, Event)> {
    let mut random = Random(line.seed | 1);
    let mut now = 1_000_000;
    let places: Vec<u64> = (0..parts)
        .map(|_| {
            // Mostly in good order, sometimes far too close.
            let near = if random.happens(50) { 100 } else { line.distance / 2 };
            now += near + random.below(line.distance);
            now
        })
        .collect();
    let mut events = Vec::new();
    for (part, &at) in places.iter().enumerate() {
        events.push((at, Event::Trigger(part)));
        // A light barrier bounces while the part is in it.
        let again = at + 200 + random.below(8_000);
        if random.happens(line.bounces) && places.get(part + 1).is_none_or(|next| again < *next) {
            events.push((again, Event::Trigger(part)));
        }
    }
    // Exposures, each with its stamp.
    let mut exposures: Vec<(u64, u64)> = Vec::new();
    if line.exclusive {
        for &at in &places {
            let delay = random.below(WITHIN - line.lag - 10_000);
            exposures.push((at + 1 + delay, at + 1 + delay + line.lag));
            if random.happens(line.doubles) {
                let again = at + 1 + delay + 100 + random.below(9_000);
                exposures.push((again, again + line.lag));
            }
        }
    } else {
        let mut at = 990_000;
        while at < now + 200_000 {
            exposures.push((at, at));
            at += if random.happens(line.stalls) { random.below(500_000) } else { line.period };
        }
    }
    exposures.sort_unstable();
    exposures.dedup_by_key(|e| e.0);
    let (mut number, mut arrives) = (0u32, 0);
    let mut shots: Vec<Shot> = Vec::new();
    for (exposed, stamp) in exposures {
        let lost = random.happens(line.losses);
        if !lost || line.counted {
            number += 1;
        }
        if lost {
            continue;
        }
        let late = if random.happens(line.stalls) { random.below(400_000) } else { random.below(20_000) };
        arrives = arrives.max(stamp + late);
        let shows = places.partition_point(|place| *place <= exposed).checked_sub(1);
        shots.push(Shot { shows, stamp, arrives, number, damaged: random.happens(line.damages) });
    }
    for i in 1..shots.len() {
        if random.happens(line.swaps) {
            let (a, b) = (shots[i - 1].arrives, shots[i].arrives);
            shots.swap(i - 1, i);
            (shots[i - 1].arrives, shots[i].arrives) = (a, b);
        }
    }
    events.extend(shots.into_iter().map(|shot| (shot.arrives.max(shot.stamp), Event::Shot(shot))));
    events.sort_by_key(|(at, _)| *at);
    events
}

#[derive(Debug, Default)]
struct Outcome {
    triggers: usize,
    paired: usize,
    wrong: usize,
    /// What giving the oldest trigger the next frame would have got wrong.
    naive_wrong: usize,
}

fn run(line: &Line, parts: usize) -> Result<Outcome, TestCaseError> {
    let start = Instant::now();
    let at = |us: u64| start + Duration::from_micros(us);
    let mut pairing = Pairing::new(window(line.exclusive), 4);
    let mut random = Random(!line.seed | 1);
    // The part behind each trigger, and what became of the trigger.
    let (mut behind, mut shown): (Vec<usize>, Vec<Option<Option<usize>>>) = (Vec::new(), Vec::new());
    let mut faulted: Vec<bool> = Vec::new();
    let mut naive: VecDeque<usize> = VecDeque::new();
    let mut outcome = Outcome::default();
    let mut last = None;
    for (now, event) in happenings(line, parts) {
        let mut faults = Vec::new();
        pairing.expire(at(now), &mut faults);
        match event {
            Event::Trigger(part) => {
                let trigger = behind.len() as u64;
                behind.push(part);
                shown.push(None);
                faulted.push(false);
                naive.push_back(part);
                let wall = SystemTime::UNIX_EPOCH;
                let triggered = Triggered { part: trigger, at: at(now), wall, deadline: Duration::MAX };
                faults.extend(pairing.trigger(triggered).err());
            }
            Event::Shot(shot) => {
                let lost = match last.replace(shot.number).map(|last: u32| shot.number.wrapping_sub(last)) {
                    None => 0,
                    Some(0 | 0x8000_0000..) => 1,
                    Some(ahead) => u64::from(ahead - 1),
                };
                let captured = Captured { at: Some(at(shot.stamp)), lost, damaged: shot.damaged };
                if let Some(part) = naive.pop_front() {
                    outcome.naive_wrong += usize::from(shot.shows != Some(part));
                }
                if let Found::Part(part) = pairing.frame(&captured, &mut faults) {
                    let slot = &mut shown[part.part as usize];
                    prop_assert!(slot.is_none() && !faulted[part.part as usize], "two outcomes");
                    *slot = Some(shot.shows);
                }
                if random.happens(line.restarts) {
                    pairing.fail_all(Unpaired::CameraLost, &mut faults);
                }
            }
        }
        for (part, why) in faults {
            let part = part as usize;
            prop_assert!(!faulted[part], "two faults");
            prop_assert!(shown[part].is_none() || why == Unpaired::TooMany, "{why:?} after a frame");
            faulted[part] = true;
        }
    }
    let mut faults = Vec::new();
    pairing.fail_all(Unpaired::Stopped, &mut faults);
    faults.into_iter().for_each(|(part, _)| faulted[part as usize] = true);
    for (trigger, &part) in behind.iter().enumerate() {
        prop_assert!(shown[trigger].is_some() || faulted[trigger], "trigger {} has no outcome", trigger);
        if let (Some(shows), false) = (shown[trigger], faulted[trigger]) {
            outcome.paired += 1;
            outcome.wrong += usize::from(shows != Some(part));
        }
    }
    outcome.triggers = behind.len();
    Ok(outcome)
}

proptest! {
    // More than a million parts in all.
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Stalls, losses, doubles, bounces, damage, disorder, restarts and parts that come too close, at random.
    #[test]
    fn no_part_is_judged_by_another_parts_frame(line in lines()) {
        let outcome = run(&line, 4_100)?;
        prop_assert_eq!(outcome.wrong, 0, "{:?}", outcome);
    }
}

fn calm(exclusive: bool) -> Line {
    Line {
        exclusive,
        lag: 5_000,
        period: 20_000,
        distance: 200_000,
        bounces: 0,
        doubles: 0,
        losses: 0,
        counted: true,
        damages: 0,
        stalls: 0,
        swaps: 0,
        restarts: 0,
        seed: 7,
    }
}

#[test]
fn nearly_every_part_of_a_calm_line_has_its_frame() {
    for exclusive in [false, true] {
        let outcome = run(&calm(exclusive), 10_000).unwrap();
        // One in twenty comes too close to the one before.
        assert!(outcome.paired * 100 >= outcome.triggers * 85, "{outcome:?}");
        assert_eq!(outcome.wrong, 0);
    }
}

#[test]
fn a_loss_costs_the_parts_around_it_alone() {
    for exclusive in [false, true] {
        let line = Line { losses: 10, stalls: 5, ..calm(exclusive) };
        let outcome = run(&line, 10_000).unwrap();
        assert!(outcome.paired * 100 >= outcome.triggers * 80, "{outcome:?}");
        assert_eq!(outcome.wrong, 0);
        assert!(outcome.naive_wrong > 100, "the line is not hostile: {outcome:?}");
    }
}
