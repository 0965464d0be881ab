//! Each part is judged by its own frame, or is a fault.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::camera::{Camera, Captured, Framing, HealthSettings, OpenCamera};
use crate::clock::{Clock, Simulation};
use crate::output::line::{Settings as LineSettings, SimulatedLines};
use crate::pipeline::{Pipeline, Settings, Setup, Subscription, Trigger};
use crate::record::State;
use crate::{Frame, Result};

use super::world::*;

fn patient() -> LineSettings {
    LineSettings { travel_ms: 3_000.0, deadline_ms: Some(2_000.0), ..Options::default().line }
}

/// Parts and verdicts in the order of the parts.
fn sorted(world: &World) -> Vec<(u64, String)> {
    let mut verdicts = world.verdicts();
    verdicts.sort();
    verdicts
}

#[test]
fn a_camera_that_stands_still_lets_no_part_be_judged_by_a_later_frame() {
    let world = World::with(Options { line: patient(), period: ms(33), ..Options::default() });
    for part in 1..=20 {
        // Nobody sees the bad parts: the camera stands still for 400 ms.
        world.scene.set_silent((7..=10).contains(&part));
        world.part(if part == 8 || part == 9 { BAD } else { GOOD });
        world.run(100);
    }
    world.run(3_000);
    for (part, verdict) in sorted(&world) {
        let expected = if (7..=10).contains(&part) { "unpaired" } else { "pass" };
        assert_eq!(verdict, expected, "part {part}");
    }
}

#[test]
fn what_the_driver_lost_or_damaged_is_a_fault_of_the_part_that_waits() {
    let world = World::new();
    for break_one in [|world: &World| world.scene.lose(7), |world: &World| world.scene.damage()] {
        // While nobody waits it concerns nobody.
        break_one(&world);
        world.run(30);
        world.part(GOOD);
        world.run(300);
        assert_eq!(world.verdicts()[0].1, "pass");
        world.part(BAD);
        break_one(&world);
        world.run(300);
        assert_eq!(world.verdicts()[0].1, "unpaired");
        world.part(BAD);
        world.run(300);
        assert_eq!(world.verdicts()[0].1, "reject");
    }
    assert_eq!(world.status().snapshot().lost_frames, 14);
}

#[test]
fn a_damaged_frame_of_a_free_running_camera_is_a_part_that_cannot_be_judged() {
    let world = World::with(Options { trigger: Trigger::free(), ..Options::default() });
    world.told();
    world.scene.damage();
    world.run(100);
    let verdicts = world.verdicts();
    assert_eq!(verdicts.len(), 10);
    let faults: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict != "pass").collect();
    assert!(matches!(faults[..], [(_, fault)] if fault == "wrong-format"), "{verdicts:?}");
}

#[test]
fn parts_that_no_frame_tells_apart_are_faults() {
    let world = World::new();
    world.part(GOOD);
    world.run(3);
    world.part(BAD);
    world.run(300);
    assert_eq!(sorted(&world), [(1, "unpaired".into()), (2, "unpaired".into())]);
    world.part(BAD);
    world.run(300);
    assert_eq!(world.verdicts(), [(3, "reject".into())]);
}

#[test]
fn the_share_of_frames_that_nobody_inspects_is_told() {
    let world = World::with(Options { trigger: Trigger::free(), ..Options::default() });
    world.run(3_000);
    assert_eq!(world.status().snapshot().unjudged_share, 0.0);
    world.behavior.lock().unwrap().residuals = ms(25);
    world.run(5_000);
    let problem = &world.status().problems()["unjudged frames"];
    assert!(problem.text.contains("camera.rate"), "{problem:?}");
    assert_eq!(world.state(), State::Operational);
    assert!(world.status().snapshot().unjudged_share > 0.2);
    world.behavior.lock().unwrap().residuals = ms(0);
    world.run(12_000);
    assert!(world.status().problems().is_empty());
    assert_eq!(world.status().snapshot().unjudged_share, 0.0);
    // Frames that the driver lost are not inspected either.
    world.scene.lose(100);
    world.run(2_000);
    assert!(world.status().problems().contains_key("unjudged frames"));
}

/// The pictures that a camera has taken: when, and of what.
type Shots = Arc<Mutex<VecDeque<(Instant, u8)>>>;

/// A camera that takes a picture when it is fired.
struct Fired {
    shots: Shots,
    clock: Clock,
    shown: u8,
    taken: u8,
}

impl Camera for Fired {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let limit = self.clock.now() + timeout;
        loop {
            let next = self.shots.lock().unwrap().front().copied();
            if let Some((at, brightness)) = next.filter(|(at, _)| *at <= self.clock.now()) {
                self.shots.lock().unwrap().pop_front();
                self.shown = brightness;
                return Ok(Some(Captured::at(at)));
            }
            if self.clock.now() >= limit {
                return Ok(None);
            }
            self.clock.sleep_until((self.clock.now() + ms(1)).min(limit));
        }
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        self.taken = self.taken.wrapping_add(1);
        let mut pixels = picture(self.shown).pixels().to_vec();
        pixels[0] = self.taken;
        *frame = Frame::new(32, 24, crate::Color::Gray, pixels)?;
        Ok(())
    }
}

struct OpenFired(Shots, Clock);

impl OpenCamera for OpenFired {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        Ok(Box::new(Fired { shots: Arc::clone(&self.0), clock: self.1.clone(), shown: 0, taken: 0 }))
    }

    fn describe(&self) -> String {
        "a camera that is fired".into()
    }
}

/// A line whose trigger fires the camera, too.
struct FiredLine {
    simulation: Simulation,
    clock: Clock,
    shots: Shots,
    records: Subscription,
    pipeline: Pipeline,
}

impl FiredLine {
    fn new(trigger: Trigger) -> Self {
        let (clock, simulation) = Simulation::start();
        let shots = Shots::default();
        let fires_camera = trigger.fires_camera;
        let setup = Setup {
            clock: clock.clone(),
            stages: stages(&clock, &Shared::default(), "first"),
            camera: Box::new(OpenFired(Arc::clone(&shots), clock.clone())),
            framing: Framing::default(),
            health: HealthSettings::default(),
            trigger,
            halts: Default::default(),
            lines: SimulatedLines::new(clock.clone()).handle(),
            line: patient(),
            // A camera that is fired may be silent for as long as no part comes.
            settings: match fires_camera {
                true => Settings::default(),
                false => Settings { camera_timeout_ms: 3_600_000, ..Settings::default() },
            },
        };
        let pipeline = Pipeline::start(setup, |_| {}).unwrap();
        let records = pipeline.subscribe(100);
        FiredLine { simulation, clock, shots, records, pipeline }
    }

    fn shoot(&self, brightness: u8, after: u64) {
        self.shots.lock().unwrap().push_back((self.clock.now() + ms(after), brightness));
    }

    fn run(&self, time: u64) {
        self.simulation.advance(ms(time)).unwrap();
    }

    fn verdicts(&self) -> Vec<(u64, String)> {
        let mut verdicts: Vec<_> = self.records.try_iter().map(|r| (r.part, word(&r))).collect();
        verdicts.sort();
        verdicts
    }
}

#[test]
fn a_picture_that_is_lost_shifts_nothing() {
    for (distance, fires_camera) in [(200, false), (200, true), (60, false), (120, true)] {
        let line = FiredLine::new(Trigger { fires_camera, ..Trigger::software() });
        let bad = |part: u64| part.is_multiple_of(3);
        for part in 1..=12u64 {
            line.pipeline.trigger().unwrap();
            if part != 4 {
                line.shoot(if bad(part) { BAD } else { GOOD }, 5);
            }
            line.run(distance);
        }
        line.run(5_000);
        let verdicts = line.verdicts();
        assert_eq!(verdicts.len(), 12);
        for (part, verdict) in verdicts {
            assert!(verdict != "pass" || !bad(part), "{distance} ms: bad part {part} passes");
            // Closer together than the window, the neighbor may be concerned as well.
            let concerned = part == 4 || (part == 5 && distance < 100);
            let expected = if bad(part) { "reject" } else { "pass" };
            assert_eq!(verdict, if concerned { "unpaired" } else { expected }, "{distance} ms, part {part}");
        }
    }
}

#[test]
fn a_picture_without_a_trigger_is_an_alarm_where_triggers_fire_the_camera() {
    let line = FiredLine::new(Trigger { fires_camera: true, ..Trigger::software() });
    line.run(500);
    line.shoot(BAD, 1);
    line.run(500);
    assert_eq!(line.pipeline.status().state(), State::Error);
    assert!(line.pipeline.status().problems()["lost triggers"].text.contains("without a trigger"));
}

#[test]
fn a_camera_that_triggers_fire_is_lost_only_if_it_does_not_answer() {
    let line = FiredLine::new(Trigger { fires_camera: true, ..Trigger::software() });
    let losses = || line.pipeline.status().counts.camera_losses.load(Relaxed);
    // No part comes for a while.
    line.run(20_000);
    assert_eq!((line.pipeline.status().state(), losses()), (State::Operational, 0));
    line.pipeline.trigger().unwrap();
    line.shoot(GOOD, 5);
    line.run(10_000);
    assert_eq!((line.verdicts(), losses()), (vec![(1, "pass".into())], 0));
    // It does not answer any more.
    line.pipeline.trigger().unwrap();
    line.run(900);
    assert_eq!((line.verdicts(), losses()), (vec![(2, "unpaired".into())], 0));
    line.run(150);
    assert_eq!((line.pipeline.status().state(), losses()), (State::Error, 1));
    // Opened again, it waits for the next part. A line that is stopped meanwhile can go on.
    line.run(10_000);
    assert_eq!(line.pipeline.status().state(), State::Operational);
    line.pipeline.trigger().unwrap();
    line.shoot(BAD, 5);
    line.run(500);
    assert_eq!(
        (line.verdicts(), line.pipeline.status().state()),
        (vec![(3, "reject".into())], State::Operational)
    );
    assert_eq!(losses(), 1);
}

#[test]
fn a_slow_camera_is_not_a_lost_one() {
    let world = World::with(Options { period: ms(4_000), trigger: Trigger::free(), ..Options::default() });
    world.run(60_000);
    assert_eq!(world.status().counts.camera_losses.load(Relaxed), 0);
    assert!(world.told().len() >= 14);
    world.scene.set_silent(true);
    world.run(13_000);
    assert_eq!(world.status().counts.camera_losses.load(Relaxed), 1);
}

#[test]
fn two_pictures_for_one_trigger_are_a_fault_even_after_the_first_was_inspected() {
    let line = FiredLine::new(Trigger { fires_camera: true, ..Trigger::software() });
    line.pipeline.trigger().unwrap();
    line.shoot(GOOD, 5);
    line.shoot(GOOD, 60);
    line.run(500);
    assert_eq!(line.verdicts(), [(1, "unpaired".into())]);
    line.pipeline.trigger().unwrap();
    line.shoot(GOOD, 5);
    line.run(150);
    assert_eq!(line.verdicts(), [], "a second picture may still come");
    line.run(100);
    assert_eq!(line.verdicts(), [(2, "pass".into())]);
}
