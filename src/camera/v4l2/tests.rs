use proptest::prelude::*;
use v4l::control::{Description, Flags, MenuItem, Type};
use v4l::timestamp::Timestamp;

use super::*;
use crate::camera::Source;
use crate::settings;

fn parsed(text: &str) -> Result<V4l2Settings, String> {
    let (source, _): (Source, _) =
        settings::read(&format!("kind = \"v4l2\"\n{text}"), "camera.toml").map_err(|e| e.chain())?;
    source.validate().map_err(|e| {
        assert_eq!(e.kind(), ErrorKind::Usage);
        e.chain()
    })?;
    match source {
        Source::V4l2(settings) => Ok(settings),
        other => Err(format!("{other:?}")),
    }
}

fn refused(text: &str) -> String {
    parsed(text).expect_err(text)
}

const DEVICE: &str = "device = \"/dev/video0\"\n";

#[test]
fn a_device_is_enough() {
    let settings = parsed(DEVICE).unwrap();
    assert_eq!(
        settings,
        V4l2Settings {
            device: "/dev/video0".into(),
            format: None,
            width: None,
            height: None,
            rate: None,
            color: None,
            buffers: 4,
            controls: BTreeMap::new(),
        }
    );
}

#[test]
fn every_key_is_understood() {
    let text = "kind = \"v4l2\"
        device = \"/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0\"
        format = \"yuyv\"\nwidth = 1280\nheight = 720\nrate = 29.97\ncolor = \"gray\"\nbuffers = 6
        [controls]\nauto_exposure = 1\nexposure_absolute = 120\nbacklight = false\n";
    let (source, _): (Source, _) = settings::read(text, "camera.toml").unwrap();
    source.validate().unwrap();
    let Source::V4l2(settings) = &source else { panic!("{source:?}") };
    assert_eq!(settings.format, Some(PixelFormat::Yuyv));
    assert_eq!((settings.width, settings.height), (Some(1280), Some(720)));
    assert_eq!((settings.rate, settings.color, settings.buffers), (Some(29.97), Some(Color::Gray), 6));
    assert_eq!(settings.controls["exposure_absolute"], ControlValue::Number(120));
    assert_eq!(settings.controls["backlight"], ControlValue::Switch(false));
}

#[test]
fn every_format_has_its_name() {
    for format in PixelFormat::all() {
        let settings = parsed(&format!("{DEVICE}format = \"{format}\"")).unwrap();
        assert_eq!(settings.format, Some(format));
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    for (text, key) in [
        ("device = \"\"", "camera.device"),
        ("device = \"/dev/video0\\u0000\"", "camera.device"),
        (&format!("{DEVICE}width = 640"), "camera.height"),
        (&format!("{DEVICE}height = 640"), "camera.width"),
        (&format!("{DEVICE}width = 0\nheight = 480"), "camera.width"),
        (&format!("{DEVICE}width = 4294967295\nheight = 4294967295"), "camera.width"),
        (&format!("{DEVICE}rate = 0"), "camera.rate"),
        (&format!("{DEVICE}rate = -5.0"), "camera.rate"),
        (&format!("{DEVICE}rate = 1e-300"), "camera.rate"),
        (&format!("{DEVICE}rate = nan"), "camera.rate"),
        (&format!("{DEVICE}rate = 1001"), "camera.rate"),
        (&format!("{DEVICE}buffers = 1"), "camera.buffers"),
        (&format!("{DEVICE}buffers = 33"), "camera.buffers"),
        (&format!("{DEVICE}format = \"grey\"\ncolor = \"rgb\""), "camera.format"),
        (&format!("{DEVICE}controls = {{ Gain = 1 }}"), "write gain"),
        (
            &format!("{DEVICE}controls = {{ \"White Balance, Automatic\" = 1 }}"),
            "write white_balance_automatic",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(key), "{text}: {message}");
    }
}

#[test]
fn what_is_no_setting_is_refused() {
    for text in [
        "",
        &format!("{DEVICE}exposure = 5"),
        &format!("{DEVICE}format = \"h264\""),
        &format!("{DEVICE}color = \"blue\""),
        &format!("{DEVICE}width = -1\nheight = 1"),
        &format!("{DEVICE}controls = {{ gain = 1.5 }}"),
        &format!("{DEVICE}controls = {{ gain = \"high\" }}"),
    ] {
        refused(text);
    }
}

#[test]
fn names_are_spelled_as_v4l2_ctl_does() {
    for (label, name) in [
        ("Brightness", "brightness"),
        ("White Balance, Automatic", "white_balance_automatic"),
        ("Exposure Time, Absolute", "exposure_time_absolute"),
        ("Exposure (Absolute)", "exposure_absolute"),
        ("  LED1  Mode ", "led1_mode"),
        ("Zoom, Continuous…", "zoom_continuous"),
        ("", ""),
    ] {
        assert_eq!(control_name(label), name);
    }
}

proptest! {
    #[test]
    fn a_spelled_name_stays_as_it_is(label: String) {
        let name = control_name(&label);
        prop_assert_eq!(control_name(&name), name);
    }

    #[test]
    fn as_many_frames_are_missing_as_numbers_were_left_out(last: u32, left_out in 0u32..0x7fff_0000) {
        let next = last.wrapping_add(left_out).wrapping_add(1);
        let mut sequence = Sequence { last: Some(last), counts: false };
        prop_assert_eq!(sequence.missing(next), u64::from(left_out));
    }

    #[test]
    fn a_rate_survives_its_fraction(rate in 0.01f64..1000.0) {
        let given = rate_of(interval_of(rate)).unwrap();
        prop_assert!((given - rate).abs() <= 0.0006);
    }
}

#[test]
fn counting_wraps_and_a_number_that_is_not_ahead_is_a_disorder() {
    let missing = |numbers: &[u32]| {
        let mut sequence = Sequence::default();
        numbers.iter().map(|number| sequence.missing(*number)).collect::<Vec<_>>()
    };
    assert_eq!(missing(&[17, 18, 20]), [0, 0, 1]);
    assert_eq!(missing(&[u32::MAX - 1, u32::MAX, 0, 2]), [0, 0, 0, 1]);
    assert_eq!(missing(&[u32::MAX - 1, 1]), [0, 2]);
    // A driver that does not count.
    assert_eq!(missing(&[0, 0, 0]), [0, 0, 0]);
    // One that does, but not always.
    assert_eq!(missing(&[4, 5, 5, 6]), [0, 0, 1, 0]);
    assert_eq!(missing(&[90_000, 90_001, 0, 1]), [0, 0, 1, 0]);
    assert_eq!(missing(&[4, 6, 5, 7]), [0, 1, 1, 1]);
}

#[test]
fn rates_become_fractions() {
    let fraction = |rate| {
        let interval = interval_of(rate);
        (interval.numerator, interval.denominator)
    };
    assert_eq!(fraction(30.0), (1, 30));
    assert_eq!(fraction(7.5), (1000, 7500));
    assert_eq!(fraction(29.97), (1000, 29_970));
    assert_eq!(fraction(1000.0), (1, 1000));
    assert_eq!(fraction(1e-9), (1000, 1));
    assert_eq!(rate_of(Fraction::new(0, 30)), None);
    assert_eq!(rate_of(Fraction::new(1, 0)), None);
}

fn stamped(flags: BufferFlags, stamp: Timestamp) -> Option<Instant> {
    taken_at(&Metadata { flags, timestamp: stamp, ..Metadata::default() })
}

#[test]
fn only_a_monotonic_stamp_tells_when_a_frame_was_taken() {
    let monotonic = BufferFlags::TIMESTAMP_MONOTONIC | BufferFlags::TSTAMP_SRC_SOE;
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Instant::now();
    let stamp = |seconds: i64| Timestamp::new(clock.tv_sec + seconds, clock.tv_nsec / 1000);
    let at = stamped(monotonic, stamp(0)).unwrap();
    let apart = at.max(now) - at.min(now);
    assert!(apart < Duration::from_millis(500), "{apart:?}");
    if clock.tv_sec > 10 {
        assert_eq!(at - stamped(monotonic, stamp(-7)).unwrap(), Duration::from_secs(7));
    }
    // A driver that does not say by which clock is believed where there is no other that it can be.
    assert!(stamped(BufferFlags::empty(), stamp(0)).is_some());
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = Timestamp::new(wall.as_secs() as i64, 0);
    assert_eq!(stamped(BufferFlags::empty(), wall), None);
    if clock.tv_sec > 60 {
        assert_eq!(stamped(BufferFlags::empty(), stamp(-50)), None);
    }
    // A copied clock, no stamp, the future, and what is no time at all.
    assert_eq!(stamped(BufferFlags::TIMESTAMP_COPY, stamp(0)), None);
    for (sec, usec) in
        [(0, 0), (clock.tv_sec + 60, 0), (-1, 0), (1, -1), (1, 1_000_000), (i64::MAX, i64::MAX)]
    {
        assert_eq!(stamped(monotonic, Timestamp::new(sec, usec)), None, "{sec} {usec}");
    }
}

fn codes(names: &[&[u8; 4]]) -> Vec<FourCC> {
    names.iter().map(|name| FourCC::new(name)).collect()
}

#[test]
fn the_best_format_that_fits_is_chosen() {
    let all = codes(&[b"JPEG", b"MJPG", b"YUYV", b"BGR3", b"RGB3", b"GREY"]);
    let chosen = |has: &[FourCC], format, color| choose(has, format, color).map(|(f, code)| (f, code.repr));
    assert_eq!(chosen(&all, None, None), Ok((PixelFormat::Grey, *b"GREY")));
    assert_eq!(chosen(&all, None, Some(Color::Gray)), Ok((PixelFormat::Grey, *b"GREY")));
    assert_eq!(chosen(&all, None, Some(Color::Rgb)), Ok((PixelFormat::Rgb24, *b"RGB3")));
    assert_eq!(chosen(&all[..4], None, Some(Color::Rgb)), Ok((PixelFormat::Bgr24, *b"BGR3")));
    assert_eq!(chosen(&all[..3], None, Some(Color::Gray)), Ok((PixelFormat::Yuyv, *b"YUYV")));
    assert_eq!(chosen(&all, Some(PixelFormat::Mjpeg), None), Ok((PixelFormat::Mjpeg, *b"MJPG")));
    assert_eq!(chosen(&all[..1], None, None), Ok((PixelFormat::Mjpeg, *b"JPEG")));
}

#[test]
fn a_format_that_is_missing_is_told_with_those_that_are_there() {
    let has = codes(&[b"YUYV", b"H264", b"\x00\xff\x01 "]);
    let message = choose(&has, Some(PixelFormat::Mjpeg), None).unwrap_err();
    assert!(message.contains("\"mjpeg\", only yuyv, H264"), "{message}");
    let message = choose(&codes(&[b"GREY"]), None, Some(Color::Rgb)).unwrap_err();
    assert!(message.contains("only grey"), "{message}");
    let message = choose(&[], None, None).unwrap_err();
    assert!(message.contains("none"), "{message}");
}

fn yuyv(width: u32, height: u32, stride: u32) -> Given {
    given(width, height, b"YUYV", &[stride])
}

fn given(width: u32, height: u32, code: &[u8; 4], strides: &[u32]) -> Given {
    let code = FourCC::new(code);
    Given { width, height, code, field: 1, colorspace: 8, quantization: 0, strides: strides.to_vec() }
}

fn asked(given: &Given) -> (u32, u32, FourCC) {
    (given.width, given.height, given.code)
}

#[test]
fn another_size_or_format_than_asked_for_is_told() {
    let asked = (1920, 1080, FourCC::new(b"YUYV"));
    let message = accept(asked, &yuyv(1280, 720, 2560), PixelFormat::Yuyv).unwrap_err();
    assert!(message.contains("1280×720 pixels of YUYV instead of 1920×1080 pixels of YUYV"), "{message}");
    let message = accept(asked, &given(1920, 1080, b"MJPG", &[0]), PixelFormat::Yuyv).unwrap_err();
    assert!(message.contains("of MJPG instead of 1920×1080 pixels of YUYV"), "{message}");
}

#[test]
fn lines_may_be_longer_but_not_shorter_than_their_pixels() {
    let stride = |stride| {
        let given = yuyv(640, 480, stride);
        accept(asked(&given), &given, PixelFormat::Yuyv).map(|(layout, _)| layout.strides[0])
    };
    assert_eq!(stride(1280), Ok(1280));
    assert_eq!(stride(1344), Ok(1344));
    assert_eq!(stride(0), Ok(1280));
    assert!(stride(1279).unwrap_err().contains("1279 bytes"));
    let jpeg = given(640, 480, b"MJPG", &[0]);
    assert!(accept(asked(&jpeg), &jpeg, PixelFormat::Mjpeg).is_ok());
}

#[test]
fn memory_planes_are_those_of_the_format_or_one() {
    let planes = |code, strides: &[u32], format| {
        let given = given(6, 4, code, strides);
        accept(asked(&given), &given, format)
    };
    let (layout, places) = planes(b"NM12", &[16, 32], PixelFormat::Nv12).unwrap();
    assert_eq!((layout.strides, layout.offsets, layout.bytes), ([16, 32, 0], [0, 64, 0], 128));
    assert_eq!(places, [Place { offset: 0, least: 3 * 16 + 6 }, Place { offset: 64, least: 32 + 6 }]);
    let (layout, places) = planes(b"YM12", &[8, 0, 5], PixelFormat::Yuv420).unwrap();
    assert_eq!((layout.strides, layout.offsets), ([8, 3, 5], [0, 32, 38]));
    assert_eq!(places.len(), 3);
    let (layout, places) = planes(b"YU12", &[8], PixelFormat::Yuv420).unwrap();
    assert_eq!((layout.strides, layout.offsets, layout.bytes), ([8, 4, 4], [0, 32, 40], 48));
    assert_eq!(places.len(), 1);
    let message = planes(b"NM12", &[16, 32, 32], PixelFormat::Nv12).unwrap_err();
    assert_eq!(message, "gives 3 memory planes for nv12, which has 2");
    assert!(planes(b"NM12", &[16, 5], PixelFormat::Nv12).unwrap_err().contains("only 5 bytes"));
}

#[test]
fn frames_that_cannot_be_are_refused() {
    for (width, height) in [(0, 480), (640, 0), (100_000, 100_000)] {
        let format = yuyv(width, height, 0);
        let message = accept(asked(&format), &format, PixelFormat::Yuyv).unwrap_err();
        assert!(message.contains("camera.width"), "{message}");
    }
    // Alternating fields.
    let fields = Given { field: 7, ..yuyv(640, 240, 1280) };
    assert!(accept(asked(&fields), &fields, PixelFormat::Yuyv).unwrap_err().contains("fields"));
}

#[test]
fn the_range_follows_the_kernels_rule() {
    let range = |quantization, colorspace| range_of(&Given { quantization, colorspace, ..yuyv(2, 2, 4) });
    let (default, full, limited, srgb, jpeg) = (0, 1, 2, 8, 7);
    assert_eq!(range(default, srgb), Range::Limited);
    assert_eq!(range(default, jpeg), Range::Full);
    assert_eq!(range(full, srgb), Range::Full);
    assert_eq!(range(limited, jpeg), Range::Limited);
}

fn known(typ: Type, label: &str, minimum: i64, maximum: i64, step: u64) -> (String, Description) {
    let name = control_name(label);
    let (id, default, flags) = (1, minimum, Flags::empty());
    (name, Description { id, typ, name: label.into(), minimum, maximum, step, default, flags, items: None })
}

fn controls() -> Vec<(String, Description)> {
    let mut exposure = known(Type::Menu, "Auto Exposure", 0, 3, 1);
    exposure.1.items =
        Some(vec![(1, MenuItem::Name("Manual".into())), (3, MenuItem::Name("Aperture Priority".into()))]);
    let mut temperature = known(Type::Integer, "Sensor Temperature", 0, 100, 1);
    temperature.1.flags = Flags::READ_ONLY;
    let mut list = known(Type::U8, "Matrix", 0, 255, 1);
    list.1.flags = Flags::HAS_PAYLOAD;
    vec![
        known(Type::Integer, "Absolute Exposure", 10, 1000, 10),
        exposure,
        known(Type::Boolean, "Horizontal Flip", 0, 1, 1),
        known(Type::Button, "Reset", 0, 0, 0),
        known(Type::Bitmask, "Mask", 0, 0x0f, 0),
        known(Type::Integer64, "Wide", i64::MIN, i64::MAX, 1),
        temperature,
        list,
    ]
}

fn plan(name: &str, value: ControlValue) -> Result<control::Value, String> {
    let known = controls();
    let mut plan = planned(&known, &BTreeMap::from([(name.to_owned(), value)]))?;
    Ok(plan.remove(0).2)
}

#[test]
fn controls_get_values_of_their_kind() {
    use control::Value::{Boolean, Integer};
    for (name, value, sent) in [
        ("absolute_exposure", ControlValue::Number(120), Integer(120)),
        ("auto_exposure", ControlValue::Number(3), Integer(3)),
        ("horizontal_flip", ControlValue::Switch(true), Boolean(true)),
        ("horizontal_flip", ControlValue::Number(0), Boolean(false)),
        ("reset", ControlValue::Switch(true), Integer(1)),
        ("mask", ControlValue::Number(5), Integer(5)),
        ("wide", ControlValue::Number(i64::MAX), Integer(i64::MAX)),
    ] {
        assert_eq!(plan(name, value), Ok(sent), "{name}");
    }
}

#[test]
fn values_that_a_control_cannot_have_are_told_with_those_it_can() {
    for (name, value, told) in [
        ("absolute_exposure", ControlValue::Number(5), "10 to 1000 in steps of 10, not 5"),
        ("absolute_exposure", ControlValue::Number(1010), "10 to 1000"),
        ("absolute_exposure", ControlValue::Number(15), "in steps of 10, not 15"),
        ("absolute_exposure", ControlValue::Switch(true), "must be a number, not true"),
        ("auto_exposure", ControlValue::Number(2), "1 (Manual), 3 (Aperture Priority), not 2"),
        ("horizontal_flip", ControlValue::Number(2), "true or false, not 2"),
        ("reset", ControlValue::Switch(false), "only true presses it"),
        ("mask", ControlValue::Number(16), "no bits beside 0xf, not 0x10"),
        ("sensor_temperature", ControlValue::Number(5), "is read-only"),
        ("matrix", ControlValue::Number(5), "list of values"),
    ] {
        let message = plan(name, value).unwrap_err();
        assert!(message.contains(told) && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn an_unknown_control_is_told_with_those_that_are_known() {
    let message = plan("gain", ControlValue::Number(1)).unwrap_err();
    assert!(message.contains("camera.controls.gain; it has: absolute_exposure, auto_exposure"), "{message}");
    let wanted = BTreeMap::from([("gain".to_owned(), ControlValue::Number(1))]);
    assert!(planned(&[], &wanted).unwrap_err().ends_with("it has: none"));
}

#[test]
fn what_governs_others_is_set_first() {
    let known = controls();
    let wanted = BTreeMap::from([
        ("absolute_exposure".to_owned(), ControlValue::Number(100)),
        ("auto_exposure".to_owned(), ControlValue::Number(1)),
        ("horizontal_flip".to_owned(), ControlValue::Switch(true)),
    ]);
    let names: Vec<&str> = planned(&known, &wanted).unwrap().iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["auto_exposure", "horizontal_flip", "absolute_exposure"]);
}

fn settings(device: &Path) -> V4l2Settings {
    parsed(&format!("device = {:?}", device.to_str().unwrap())).unwrap()
}

fn cannot_open(device: &Path) -> String {
    let Err(e) = (V4l2Opener { settings: settings(device) }).open() else { panic!("{device:?} is a camera") };
    assert_eq!(e.kind(), ErrorKind::Camera);
    assert!(e.chain().contains(device.to_str().unwrap()), "{}", e.chain());
    e.chain()
}

#[test]
fn a_device_that_is_not_there_is_told_with_what_to_do() {
    let message = cannot_open(Path::new("/dev/v4l/by-path/no-such-camera"));
    assert!(message.contains("is missing: plug it in") && message.contains("camera.device"), "{message}");
}

#[test]
fn a_device_that_is_no_camera_is_told_with_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for device in [Path::new("/dev/null"), Path::new("/dev/zero"), file.path()] {
        let message = cannot_open(device);
        assert!(message.contains("is no camera: set camera.device to one"), "{message}");
    }
}

#[test]
fn a_folder_is_no_device() {
    let folder = tempfile::tempdir().unwrap();
    assert!(cannot_open(folder.path()).contains("cannot be opened"));
}

#[test]
fn devices_that_cannot_be_used_do_not_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weakrest-leak");
    std::fs::write(&path, "").unwrap();
    for _ in 0..20 {
        cannot_open(&path);
    }
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| *target == path)
        .count();
    assert_eq!(open, 0);
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    let e = guarded(|| -> io::Result<()> { panic!("expected here: Invalid quantization") }).unwrap_err();
    assert!(e.to_string().contains("the driver gives an unknown answer"), "{e}");
    assert!(!passing(&e));
}

#[test]
fn the_opener_names_its_camera() {
    let source = Source::V4l2(settings(Path::new("/dev/video7")));
    let opener = source.opener(&crate::clock::Clock::system());
    assert_eq!(opener.describe(), "the camera /dev/video7");
}

/// A camera that has given these bytes. It has no stream, so there is nothing to wait for.
fn camera(format: PixelFormat, color: Color, layout: Layout, bytes: &[u8]) -> V4l2Camera {
    V4l2Camera {
        device: "/dev/video0".into(),
        stream: None,
        format,
        color,
        layout,
        range: Range::Full,
        bytes: bytes.to_vec(),
        sequence: Sequence::default(),
        timing: Timing::default(),
    }
}

#[test]
fn every_format_fills_a_frame() {
    let layout = |format: PixelFormat| format.in_one_buffer(2, 1, 0);
    let mut frame = Frame::default();
    for (format, color, bytes, pixels) in [
        (PixelFormat::Grey, Color::Gray, &[1, 2][..], &[1, 2][..]),
        (PixelFormat::Rgb24, Color::Rgb, &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]),
        (PixelFormat::Bgr24, Color::Rgb, &[1, 2, 3, 4, 5, 6], &[3, 2, 1, 6, 5, 4]),
        (PixelFormat::Rgb24, Color::Gray, &[255, 0, 0, 0, 0, 255], &[76, 29]),
        (PixelFormat::Bgr24, Color::Gray, &[255, 0, 0, 0, 0, 255], &[29, 76]),
        (PixelFormat::Yuyv, Color::Gray, &[9, 0, 8, 0], &[9, 8]),
        (PixelFormat::Yuyv, Color::Rgb, &[9, 128, 8, 128], &[9, 9, 9, 8, 8, 8]),
        (PixelFormat::Uyvy, Color::Gray, &[0, 9, 0, 8], &[9, 8]),
        (PixelFormat::Uyvy, Color::Rgb, &[128, 9, 128, 8], &[9, 9, 9, 8, 8, 8]),
        (PixelFormat::Nv12, Color::Rgb, &[100, 50, 128, 255], &[255, 9, 100, 228, 0, 50]),
        (PixelFormat::Nv21, Color::Rgb, &[100, 50, 255, 128], &[255, 9, 100, 228, 0, 50]),
        (PixelFormat::Yuv420, Color::Rgb, &[100, 50, 128, 255], &[255, 9, 100, 228, 0, 50]),
        (PixelFormat::Yvu420, Color::Rgb, &[100, 50, 255, 128], &[255, 9, 100, 228, 0, 50]),
        (PixelFormat::Yvu420, Color::Gray, &[100, 50, 255, 128], &[100, 50]),
        (sensor("y10"), Color::Gray, &[0xff, 3, 0, 2], &[255, 128]),
        (sensor("y12"), Color::Gray, &[0xff, 15, 0, 8], &[255, 128]),
        (sensor("y16"), Color::Gray, &[0xff, 0xff, 0, 0x80], &[255, 128]),
        (sensor("y10p"), Color::Gray, &[255, 128, 0, 0, 0b0000_0011], &[255, 128]),
        (sensor("y12p"), Color::Gray, &[255, 128, 0x0f], &[255, 128]),
    ] {
        camera(format, color, layout(format), bytes).read(&mut frame).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.color()), (2, 1, color), "{format}");
        assert_eq!(frame.pixels(), pixels, "{format} as {color}");
    }
}

fn sensor(name: &str) -> PixelFormat {
    name.parse().unwrap()
}

/// A driver that puts 10 bits into the upper ones of 16 would pass as one that sends very bright pictures.
#[test]
fn bits_beyond_those_of_the_format_are_no_picture() {
    let bytes = [0xc0, 0xff, 0, 0];
    let format = sensor("y10");
    let mut camera = camera(format, Color::Gray, format.in_one_buffer(2, 1, 0), &bytes);
    let e = camera.read(&mut Frame::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Image);
    assert!(e.chain().contains("values up to 65472 in a format of 10 bits"), "{}", e.chain());
    assert!(e.chain().contains("set camera.format to that of 16 bits"), "{}", e.chain());
}

#[test]
fn a_damaged_frame_does_not_mean_that_the_camera_is_gone() {
    let layout = |format: PixelFormat| format.in_one_buffer(16, 16, 0);
    for format in PixelFormat::all() {
        for bytes in [&[][..], &[0xff; 100]] {
            let e =
                camera(format, Color::Gray, layout(format), bytes).read(&mut Frame::default()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Image, "{format}");
        }
    }
}

/// For a machine with a camera, or `vivid`: `WEAKREST_CAMERA=/dev/video0 cargo test --lib real_camera --
/// --ignored`.
#[test]
#[ignore = "needs a camera, named by WEAKREST_CAMERA"]
fn a_real_camera_gives_frames_again_and_again() {
    let device = PathBuf::from(std::env::var_os("WEAKREST_CAMERA").unwrap());
    let mut opener = V4l2Opener { settings: settings(&device) };
    let mut frame = Frame::default();
    for _ in 0..3 {
        let mut camera = opener.open().unwrap();
        let (mut frames, mut lost, mut last) = (0, 0, None);
        let begin = Instant::now();
        while frames < 30 {
            assert!(begin.elapsed() < Duration::from_secs(20), "{frames} frames only");
            // Short, so that time-outs are part of the test.
            let Some(captured) = camera.wait(Duration::from_millis(7)).unwrap() else { continue };
            let at = captured.at.expect("the driver stamps no frames, so no trigger can have one");
            assert!(last < Some(at) && at <= Instant::now());
            last = Some(at);
            lost += captured.lost;
            camera.read(&mut frame).unwrap();
            frames += 1;
        }
        println!(
            "{}×{} {}, {lost} lost, {:?}",
            frame.width(),
            frame.height(),
            frame.color(),
            begin.elapsed()
        );
        assert!(camera.wait(Duration::ZERO).is_ok());
    }
}
