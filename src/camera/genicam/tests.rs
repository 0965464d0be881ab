use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proptest::prelude::*;

use super::*;
use crate::camera::Source;

fn parsed(text: &str) -> std::result::Result<GenicamSettings, String> {
    let (source, _): (Source, _) =
        settings::read(&format!("kind = \"genicam\"\n{text}"), "camera.toml").map_err(|e| e.chain())?;
    source.validate().map_err(|e| e.chain())?;
    match source {
        Source::Genicam(settings) => Ok(settings),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn nothing_is_needed_and_every_key_is_understood() {
    assert_eq!(parsed("").unwrap(), GenicamSettings::default());
    let settings = parsed(
        "camera = \"24021337\"\ninterface = \"eth1\"\nformat = \"BayerRG8\"\ncolor = \"gray\"\npacket_size = 9000\n\
         packet_delay_us = 20\ncontrols = { ExposureTime = 250.5, Gain = 0, TriggerMode = \"On\", ReverseX = true }",
    )
    .unwrap();
    assert_eq!((settings.packet_size, settings.packet_delay_us), (Some(9000), Some(20)));
    let texts: Vec<String> =
        settings.controls.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(texts, ["ExposureTime=250.5", "Gain=0", "ReverseX=true", "TriggerMode=On"]);
}

#[test]
fn settings_that_cannot_be_are_named() {
    for (text, key) in [
        ("camera = \" \"", "camera.camera"),
        ("format = \"\"", "camera.format"),
        ("packet_size = 100", "camera.packet_size"),
        ("packet_delay_us = 20000", "camera.packet_delay_us"),
        ("controls = { Gain = [1] }", "controls.Gain"),
        ("width = 5", "width"),
    ] {
        let told = parsed(text).unwrap_err();
        assert!(told.contains(key), "{text}: {told}");
    }
}

#[test]
fn numbers_that_wrap_are_counted_through() {
    let missing = |numbers: &[u64]| {
        let mut counted = Numbers::default();
        numbers.iter().map(|number| counted.missing(*number)).collect::<Vec<_>>()
    };
    assert_eq!(missing(&[1, 2, 4, 5]), [0, 0, 1, 0]);
    assert_eq!(missing(&[65_534, 65_535, 1, 2]), [0, 0, 0, 0]);
    assert_eq!(missing(&[65_533, 2]), [0, 3]);
    // 64 bits.
    assert_eq!(missing(&[65_535, 65_536, 65_540]), [0, 0, 3]);
    // The camera was started again, or repeats a number.
    assert_eq!(missing(&[500, 1, 1]), [0, 1, 1]);
}

proptest! {
    /// A frame is never told to be taken after it arrived, and as late as its own delay, once a quick one has come.
    #[test]
    fn a_late_frame_keeps_its_time(delays in proptest::collection::vec(0u64..400, 2..200), offset in 0u64..1 << 40) {
        let mut ticks = Ticks::new(1e6);
        let begin = ticks.begin + Duration::from_secs(1);
        let mut least = u64::MAX;
        for (n, delay) in delays.iter().enumerate() {
            let taken = begin + Duration::from_millis(40 * n as u64);
            let arrived = taken + Duration::from_millis(*delay);
            let told = ticks.at(offset + 40_000 * n as u64, arrived);
            prop_assert!(told <= arrived);
            let recent = &delays[(n + 1).saturating_sub(Ticks::LATEST)..=n];
            least = recent.iter().copied().min().unwrap_or(least);
            let wrong = told.duration_since(taken).as_secs_f64() - least as f64 * 1e-3;
            prop_assert!(wrong.abs() < 1e-3, "{n}: {wrong}");
        }
    }
}

#[test]
fn a_clock_that_was_set_is_learned_again() {
    let mut ticks = Ticks::new(1e9);
    let now = ticks.begin + Duration::from_secs(5);
    assert_eq!(ticks.at(7_000_000_000, now), now);
    let later = now + Duration::from_secs(1);
    assert_eq!(ticks.at(1_000, later), later);
    let told = ticks.at(1_000, later + Duration::from_millis(30));
    assert!((told - later).as_secs_f64().abs() < 1e-6);
    // Set back by half a second, as time protocols do: less than a jump.
    let mut ticks = Ticks::new(1e9);
    for frame in 0..40u64 {
        let arrived = ticks.begin + Duration::from_millis(40 * frame);
        let back = if frame < 20 { 0 } else { 500 };
        assert_eq!(ticks.at((5_000 + 40 * frame - back) * 1_000_000, arrived), arrived, "frame {frame}");
    }
}

/// Aravis' camera, which is independent of the crate under test. It takes the one port of the protocol.
struct Fake {
    child: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Fake {
    /// `None` if it is not installed.
    fn start(arguments: &[&str]) -> Option<Fake> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Command::new("arv-fake-gv-camera-0.8")
            .args(["-i", "127.0.0.1", "-s", "T1"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            eprintln!("SKIP camera::genicam: arv-fake-gv-camera-0.8 is missing (Debian: aravis-tools)");
            return None;
        };
        let fake = Fake { child, _alone: alone };
        let limit = Instant::now() + Duration::from_secs(20);
        while blocking::discover_ip(Ipv4Addr::LOCALHOST, ANSWER).unwrap().is_none() {
            assert!(Instant::now() < limit, "the fake camera does not answer");
        }
        Some(fake)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn opened(settings: &GenicamSettings) -> Result<Box<dyn Camera>> {
    GenicamOpener { settings: settings.clone() }.open()
}

fn named(text: &str) -> GenicamSettings {
    parsed(&format!("camera = \"T1\"\n{text}")).unwrap()
}

fn refused(settings: &GenicamSettings) -> String {
    match opened(settings) {
        Ok(_) => panic!("{settings:?} is not refused"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Camera);
            e.chain()
        }
    }
}

/// The next frame that comes, whole or not.
fn next(camera: &mut dyn Camera) -> Captured {
    for _ in 0..200 {
        if let Some(captured) = camera.wait(Duration::from_millis(100)).unwrap() {
            return captured;
        }
    }
    panic!("no frame comes");
}

/// The fake camera's pattern: every pixel is one more than its left neighbor, and starts again after 254.
fn is_the_pattern(frame: &Frame) -> bool {
    let wide = frame.width() as usize;
    frame
        .pixels()
        .chunks_exact(wide)
        .all(|line| line.windows(2).all(|p| p[1] == p[0].wrapping_add(1) || p[1] == 0))
}

#[test]
fn a_camera_gives_whole_frames_with_their_times_again_and_again() {
    let Some(_fake) = Fake::start(&[]) else { return };
    let mut frame = Frame::default();
    for settings in [
        named(""),
        named("controls = { ExposureTimeAbs = 10000.0 }"),
        parsed("camera = \"127.0.0.1\"").unwrap(),
    ] {
        let mut camera = opened(&settings).unwrap();
        let mut last = None;
        let mut whole = 0;
        for _ in 0..100 {
            let captured = next(&mut *camera);
            // This camera sends nothing again, and a busy machine loses packets.
            if captured.damaged {
                continue;
            }
            whole += 1;
            if whole == 5 {
                break;
            }
            assert!(last < captured.at && captured.at.unwrap() <= Instant::now(), "{captured:?}");
            last = captured.at;
            camera.read(&mut frame).unwrap();
            assert_eq!((frame.width(), frame.height(), frame.color()), (512, 512, Color::Gray));
            assert!(is_the_pattern(&frame));
        }
        assert_eq!(whole, 5);
    }
}

#[test]
fn what_a_camera_cannot_do_is_told_with_what_it_can() {
    let Some(_fake) = Fake::start(&[]) else { return };
    let told = refused(&GenicamSettings { camera: Some("24021337".into()), ..GenicamSettings::default() });
    assert!(told.contains("no camera \"24021337\"") && told.contains("serial number T1"), "{told}");
    let told = refused(&named("format = \"Mono99\""));
    assert!(told.contains("camera.format") && told.contains("Mono8"), "{told}");
    let told = refused(&named("controls = { Width = 100000 }"));
    assert!(told.contains("camera.controls.Width") && told.contains("100000"), "{told}");
    let told = refused(&named("controls = { Sharpness = 1 }"));
    assert!(told.contains("camera.controls.Sharpness"), "{told}");
    // Another program has it.
    let _first = opened(&named("")).unwrap();
    let told = refused(&named(""));
    assert!(told.contains("another program may have it"), "{told}");
}

#[test]
fn lost_packets_make_damaged_or_lost_frames_and_never_wrong_ones() {
    let Some(_fake) = Fake::start(&["-r", "3"]) else { return };
    let mut camera = opened(&named("packet_size = 1500")).unwrap();
    let (mut whole, mut hurt) = (0, 0);
    let mut frame = Frame::default();
    for _ in 0..25 {
        let captured = next(&mut *camera);
        hurt += captured.lost + u64::from(captured.damaged);
        if captured.damaged {
            assert_eq!(camera.read(&mut frame).unwrap_err().kind(), ErrorKind::Image);
        } else {
            camera.read(&mut frame).unwrap();
            assert!(is_the_pattern(&frame));
            whole += 1;
        }
    }
    assert!(hurt > 0 && whole > 0, "{hurt} hurt and {whole} whole frames of 25");
}

#[test]
fn a_camera_that_is_unplugged_is_told() {
    let Some(mut fake) = Fake::start(&[]) else { return };
    let mut camera = opened(&named("")).unwrap();
    next(&mut *camera);
    fake.child.kill().unwrap();
    // The pipeline opens a camera again that gives no frames; what matters is that none comes.
    let limit = Instant::now() + Duration::from_secs(3);
    let mut ended = false;
    while Instant::now() < limit && !ended {
        ended = camera.wait(Duration::from_millis(100)).map_or(true, |frame| frame.is_none());
    }
    assert!(ended);
    drop(camera);
    let told = refused(&named(""));
    assert!(told.contains("none answers"), "{told}");
}

#[test]
fn the_cameras_on_the_network_are_listed() {
    let Some(_fake) = Fake::start(&[]) else { return };
    let list = super::list();
    assert!(
        list.iter().any(|camera| camera.contains("serial number T1, ") && camera.contains("at 127.0.0.1")),
        "{list:?}"
    );
}
