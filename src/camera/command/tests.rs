//! Programs that behave, and programs that do not.

use std::path::Path;

use super::*;

const WAIT: Duration = Duration::from_secs(20);

/// A shell's commands as a camera of 4×2 gray pixels.
fn shell(commands: &str) -> CommandSettings {
    CommandSettings {
        command: ["sh", "-c", commands].map(str::to_owned).to_vec(),
        format: PixelFormat::Grey,
        width: 4,
        height: 2,
        rate: None,
        color: None,
        header: false,
    }
}

fn open(settings: &CommandSettings) -> Box<dyn Camera> {
    settings.validate().unwrap();
    CommandOpener { settings: settings.clone() }.open().unwrap()
}

fn next(camera: &mut dyn Camera) -> Captured {
    camera.wait(WAIT).unwrap().expect("a frame")
}

/// The error that comes after any frames.
fn end(camera: &mut dyn Camera) -> String {
    loop {
        match camera.wait(WAIT) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the program does not end"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Camera);
                return e.chain();
            }
        }
    }
}

fn is_there(pid: &str) -> bool {
    // A killed child that nobody has waited for is not there.
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < WAIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn frames_are_what_the_program_wrote() {
    let before = Instant::now();
    let mut camera =
        open(&shell("printf abcdefgh; sleep 0.3; printf ijkl; sleep 0.1; printf mnop; sleep 100"));
    let mut frame = Frame::default();
    let mut last = before;
    for expected in ["abcdefgh", "ijklmnop"] {
        let captured = next(&mut *camera);
        let at = captured.at.unwrap();
        assert!(at >= last && !captured.damaged && captured.lost == 0);
        last = at;
        camera.read(&mut frame).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.color()), (4, 2, Color::Gray));
        assert_eq!(frame.pixels(), expected.as_bytes());
    }
    assert!(camera.wait(Duration::from_millis(20)).unwrap().is_none());

    let mut settings = shell("printf abcdef; sleep 100");
    (settings.format, settings.width, settings.height) = (PixelFormat::Bgr24, 2, 1);
    let mut camera = open(&settings);
    next(&mut *camera);
    camera.read(&mut frame).unwrap();
    assert_eq!((frame.color(), frame.pixels()), (Color::Rgb, b"cbafed".as_slice()));
}

#[test]
fn a_program_that_ends_says_how_and_why() {
    for (commands, said) in [
        ("printf abcdefgh; echo no such sensor >&2; exit 3", "the program sh ended (exit status 3)"),
        ("printf abcdefghij; sleep 0.1; exit 0", "the program sh ended within a frame, 2 of 8 bytes into it"),
        ("kill -TERM $$", "the program sh ended (signal 15)"),
        // It closes its output and runs on.
        ("printf abcdefgh; exec >&-; sleep 1000", "the program sh ended"),
    ] {
        let error = end(&mut *open(&shell(commands)));
        assert!(error.contains(said), "{commands}: {error}");
    }
    let mut camera = open(&shell("echo one >&2; echo no such sensor >&2; exit 3"));
    let error = end(&mut *camera);
    assert!(error.ends_with("it said last: no such sensor"), "{error}");
    let mut opener = CommandOpener { settings: shell("") };
    opener.settings.command = vec!["/does/not/exist".into()];
    let error = opener.open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Camera);
    assert!(error.chain().contains("/does/not/exist does not start"), "{}", error.chain());
}

/// A file of frames with headers: nanoseconds before now, and numbers.
fn headed(path: &Path, frames: &[(Duration, u64)]) {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32);
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|(ago, number)| {
            let stamp = (now - *ago).as_nanos() as u64;
            [stamp.to_le_bytes().as_slice(), &number.to_le_bytes(), b"abcdefgh"].concat()
        })
        .collect();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn headers_carry_time_and_number_and_wrong_ones_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames");
    let ms = Duration::from_millis;
    let camera = || {
        let commands = format!("cat {}; sleep 100", path.display());
        open(&CommandSettings { header: true, ..shell(&commands) })
    };
    headed(&path, &[(ms(300), 7), (ms(200), 8)]);
    let mut right = camera();
    let (first, second) = (next(&mut *right), next(&mut *right));
    let apart = second.at.unwrap() - first.at.unwrap();
    assert!(apart >= ms(99) && apart <= ms(101), "{apart:?}");
    assert!(first.at.unwrap().elapsed() >= ms(300));
    assert_eq!((first.lost, second.lost), (0, 0));

    headed(&path, &[(ms(300), 7), (ms(200), 10)]);
    let mut gap = camera();
    next(&mut *gap);
    assert_eq!(next(&mut *gap).lost, 2);

    for (frames, said) in [
        ([(ms(300), 7), (ms(200), 7)], "numbered a frame 7 after 7"),
        ([(ms(300), 7), (ms(200), 2)], "numbered a frame 2 after 7"),
        ([(ms(300), 7), (ms(20_000), 8)], "not within the last 10 s of the monotonic clock"),
    ] {
        headed(&path, &frames);
        let error = end(&mut *camera());
        assert!(error.contains(said), "{error}");
    }
    // Frames of another size: what is read as a header is none.
    headed(&path, &[(ms(300), 1), (ms(200), 2), (ms(100), 3)]);
    let commands = format!("cat {}; sleep 100", path.display());
    let error = end(&mut *open(&CommandSettings { header: true, width: 5, ..shell(&commands) }));
    assert!(error.contains("camera.width"), "{error}");
}

#[test]
fn a_flood_loses_the_oldest_frames_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let commands = format!("echo $$ > {}; exec cat /dev/zero", pid.display());
    let mut camera = open(&CommandSettings { width: 640, height: 480, ..shell(&commands) });
    next(&mut *camera);
    std::thread::sleep(Duration::from_millis(300));
    // The waiting ones are told to have lost those before them.
    let lost: u64 = (0..4).map(|_| next(&mut *camera).lost).sum();
    assert!(lost > 3, "{lost}");
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(is_there(&pid));
    drop(camera);
    until("a closed camera's program runs on", || !is_there(&pid));
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let commands = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait", child.display());
    let mut camera = open(&shell(&commands));
    until("the child's number", || std::fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')));
    assert!(camera.wait(Duration::from_millis(50)).unwrap().is_none());
    let pid = std::fs::read_to_string(&child).unwrap();
    assert!(is_there(&pid));
    drop(camera);
    until("a closed camera's program leaves a child", || !is_there(&pid));
}

/// Such a child keeps the pipe open, and must not keep the reader at work.
#[test]
fn a_child_that_left_the_group_ends_with_the_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let commands = format!("setsid sh -c 'echo $$ > {}; exec cat /dev/zero' & wait", child.display());
    let mut camera = open(&shell(&commands));
    next(&mut *camera);
    let pid = std::fs::read_to_string(&child).unwrap();
    assert!(is_there(&pid));
    drop(camera);
    until("a closed camera is still read", || !is_there(&pid));
}

#[test]
fn endless_complaints_stay_small() {
    let mut camera =
        open(&shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; yes complaint | head -c 3000000 >&2"));
    let error = end(&mut *camera);
    assert!(error.len() < 1000, "{} bytes", error.len());
}

#[test]
fn settings_without_sense_are_refused_by_key() {
    type Change = fn(&mut CommandSettings);
    let cases: [(Change, &str); 7] = [
        (|s| s.command.clear(), "camera.command"),
        (|s| s.command[0].clear(), "camera.command"),
        (|s| s.width = 0, "camera.width"),
        (|s| (s.width, s.height) = (100_000, 100_000), "camera.height"),
        (|s| s.format = PixelFormat::Mjpeg, "camera.format"),
        (|s| s.color = Some(Color::Rgb), "camera.format"),
        (|s| s.rate = Some(0.0), "camera.rate"),
    ];
    for (change, key) in cases {
        let mut settings = shell("true");
        change(&mut settings);
        let error = settings.validate().unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Usage, Some(key)), "{error}");
    }
}

/// Three gray lines would look like one line of colors.
#[test]
fn a_gray_camera_stays_gray_for_an_inspector_of_colors() {
    let settings = CommandSettings { color: Some(Color::Rgb), ..shell("printf 12345678; sleep 60") };
    let mut camera = CommandOpener { settings }.open().unwrap();
    next(&mut *camera);
    let mut frame = Frame::default();
    camera.read(&mut frame).unwrap();
    assert_eq!((frame.color(), frame.pixels()), (Color::Gray, &b"12345678"[..]));
}
