//! USB3 Vision with a camera that is written here, from the registers and transfers of GenCP 1.2 and Aravis. There is
//! no USB hardware.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use viva_genicam::u3v::{U3vDevice, U3vError, UsbTransfer};
use viva_genicam::{U3vRegisterIo, open_u3v_device};

use super::*;

const OUT: u8 = 0x01;
const IN: u8 = 0x81;
const STREAM: u8 = 0x82;

const MANIFEST: usize = 0x1000;
const SBRM: usize = 0x2000;
const SIRM: usize = 0x3000;
const FEATURES: usize = 0x4000;
const XML: usize = 0x8000;

const SIZE: (usize, usize) = (32, 24);

/// A feature in a register of four bytes.
fn register(name: &str, kind: &str, at: usize, more: &str) -> String {
    format!(
        "<{kind} Name=\"{name}\"><pValue>{name}Reg</pValue>{more}</{kind}>\
         <IntReg Name=\"{name}Reg\"><Address>{at:#x}</Address><Length>4</Length><AccessMode>RW</AccessMode>\
         <pPort>Device</pPort><Sign>Unsigned</Sign><Endianess>LittleEndian</Endianess></IntReg>"
    )
}

fn description() -> String {
    let entry =
        |name: &str, value: u32| format!("<EnumEntry Name=\"{name}\"><Value>{value}</Value></EnumEntry>");
    let command = "<CommandValue>1</CommandValue>";
    let features = [
        register("Width", "Integer", FEATURES, ""),
        register("Height", "Integer", FEATURES + 4, ""),
        register("PayloadSize", "Integer", FEATURES + 8, ""),
        register(
            "PixelFormat",
            "Enumeration",
            FEATURES + 12,
            &(entry("Mono8", MONO8) + &entry("RGB8", 0x0218_0014)),
        ),
        register("AcquisitionMode", "Enumeration", FEATURES + 16, &entry("Continuous", 2)),
        register("AcquisitionStart", "Command", FEATURES + 20, command),
        register("AcquisitionStop", "Command", FEATURES + 24, command),
        register("Offset", "Integer", FEATURES + 28, "<Min>0</Min><Max>63</Max>"),
    ];
    format!(
        "<RegisterDescription SchemaMajorVersion=\"1\" SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\">{}\
         <Port Name=\"Device\"/></RegisterDescription>",
        features.concat()
    )
}

const MONO8: u32 = 0x0108_0001;

/// What is wrong with the next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It is lost: its number is missing.
    Skipped,
    /// It ends after half of its lines.
    Half,
    /// Its trailer reports an error.
    Refused,
}

struct State {
    memory: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
    transfers: VecDeque<Vec<u8>>,
    block: u64,
    next: Instant,
    wrong: Option<Wrong>,
}

/// A camera on a USB port.
struct FakeUsb {
    state: Mutex<State>,
    gone: AtomicBool,
}

impl FakeUsb {
    fn new() -> Arc<FakeUsb> {
        let mut memory = vec![0; 0x10000];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        let (words, longs) = (|n: u32| n.to_le_bytes(), |n: usize| (n as u64).to_le_bytes());
        put(0x0, &words(0x0001_0002));
        put(0x44, b"Fake USB");
        put(0x144, b"U1");
        put(0x1C4, &longs(1 << 9));
        put(0x1CC, &words(100));
        put(0x1D0, &longs(MANIFEST));
        put(0x1D8, &longs(SBRM));
        let xml = description();
        put(MANIFEST, &longs(1));
        put(MANIFEST + 16, &longs(XML));
        put(MANIFEST + 24, &longs(xml.len()));
        put(XML, xml.as_bytes());
        put(SBRM, &words(0x0001_0000));
        put(SBRM + 0x04, &longs(1));
        put(SBRM + 0x14, &words(1024));
        put(SBRM + 0x18, &words(1024));
        put(SBRM + 0x1C, &words(1));
        put(SBRM + 0x20, &longs(SIRM));
        put(SBRM + 0x28, &words(0x30));
        // Transfers are a multiple of 64 bytes.
        put(SIRM, &words(6 << 24));
        put(SIRM + 0x08, &longs(SIZE.0 * SIZE.1));
        put(SIRM + 0x10, &words(52));
        put(SIRM + 0x14, &words(32));
        for (at, value) in
            [(0, SIZE.0 as u32), (4, SIZE.1 as u32), (8, (SIZE.0 * SIZE.1) as u32), (12, MONO8), (16, 2)]
        {
            put(FEATURES + at, &words(value));
        }
        let state = State {
            memory,
            answers: VecDeque::new(),
            transfers: VecDeque::new(),
            block: 0,
            next: Instant::now(),
            wrong: None,
        };
        Arc::new(FakeUsb { state: Mutex::new(state), gone: AtomicBool::new(false) })
    }

    fn open(self: &Arc<Self>, text: &str) -> Result<GenicamCamera<U3vRegisterIo<FakeUsb>>> {
        let settings: (crate::camera::Source, _) =
            settings::read(&format!("kind = \"genicam\"\n{text}"), "camera.toml")?;
        let crate::camera::Source::Genicam(settings) = settings.0 else { panic!("another kind") };
        let device = U3vDevice::open(Arc::clone(self), IN, OUT, Some(STREAM), None).unwrap();
        let (device, _) = open_u3v_device(device).unwrap();
        GenicamCamera::start("Fake USB".into(), device, &settings)
    }

    fn number(state: &State, at: usize) -> u32 {
        u32::from_le_bytes(state.memory[at..at + 4].try_into().unwrap())
    }

    /// The transfers of the next frame.
    fn expose(state: &mut State) {
        let wrong = state.wrong.take();
        state.block += if wrong == Some(Wrong::Skipped) { 2 } else { 1 };
        let number = state.block.to_le_bytes();
        let mut leader = vec![0; 50];
        leader[..4].copy_from_slice(b"U3VL");
        leader[6..8].copy_from_slice(&50u16.to_le_bytes());
        leader[8..16].copy_from_slice(&number);
        leader[18..20].copy_from_slice(&1u16.to_le_bytes());
        leader[20..28].copy_from_slice(&(state.block * 20_000_000).to_le_bytes());
        leader[28..32].copy_from_slice(&MONO8.to_le_bytes());
        leader[32..36].copy_from_slice(&(SIZE.0 as u32).to_le_bytes());
        leader[36..40].copy_from_slice(&(SIZE.1 as u32).to_le_bytes());
        let offset = Self::number(state, FEATURES + 28) as u64;
        let mut payload: Vec<u8> = (0..SIZE.0 * SIZE.1).map(|i| pixel(i, state.block + offset)).collect();
        if wrong == Some(Wrong::Half) {
            payload.truncate(payload.len() / 2);
        }
        let mut trailer = vec![0; 32];
        trailer[..4].copy_from_slice(b"U3VT");
        trailer[6..8].copy_from_slice(&32u16.to_le_bytes());
        trailer[8..16].copy_from_slice(&number);
        trailer[16..18]
            .copy_from_slice(&(if wrong == Some(Wrong::Refused) { 0xA101u16 } else { 0 }).to_le_bytes());
        trailer[20..28].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        trailer[28..32].copy_from_slice(&((payload.len() / SIZE.0) as u32).to_le_bytes());
        let transfer = Self::number(state, SIRM + 0x1C) as usize;
        state.transfers.push_back(leader);
        state.transfers.extend(payload.chunks(transfer).map(<[u8]>::to_vec));
        state.transfers.push_back(trailer);
    }
}

fn pixel(i: usize, block: u64) -> u8 {
    (i as u64 + 3 * block) as u8
}

impl UsbTransfer for FakeUsb {
    fn bulk_write(&self, endpoint: u8, data: &[u8], _: Duration) -> Result<usize, U3vError> {
        if self.gone.load(Relaxed) {
            return Err(U3vError::Disconnected);
        }
        assert_eq!((endpoint, &data[..4]), (OUT, &b"U3VC"[..]));
        let command = u16::from_le_bytes([data[6], data[7]]);
        let at = u64::from_le_bytes(data[12..20].try_into().unwrap()) as usize;
        let mut state = self.state.lock().unwrap();
        let payload = match command {
            0x0800 => {
                let count = u16::from_le_bytes([data[22], data[23]]) as usize;
                state.memory[at..at + count].to_vec()
            }
            0x0802 => {
                state.memory[at..at + data.len() - 20].copy_from_slice(&data[20..]);
                let start = at == FEATURES + 20;
                let stop = at == FEATURES + 24;
                if start || stop {
                    // The register of a command keeps whether frames come.
                    state.memory[FEATURES + 20] = start.into();
                }
                Vec::new()
            }
            other => panic!("the command {other:#x}"),
        };
        let mut answer = b"U3VC\0\0".to_vec();
        answer.extend((command + 1).to_le_bytes());
        answer.extend((payload.len() as u16).to_le_bytes());
        answer.extend(&data[10..12]);
        answer.extend(payload);
        state.answers.push_back(answer);
        Ok(data.len())
    }

    fn bulk_read(&self, endpoint: u8, buffer: &mut [u8], timeout: Duration) -> Result<usize, U3vError> {
        let end = Instant::now() + timeout;
        loop {
            if self.gone.load(Relaxed) {
                return Err(U3vError::Disconnected);
            }
            let mut state = self.state.lock().unwrap();
            let runs = state.memory[SIRM + 4] == 1 && state.memory[FEATURES + 20] == 1;
            if endpoint == STREAM && state.transfers.is_empty() && runs && state.next <= Instant::now() {
                state.next = Instant::now() + Duration::from_millis(20);
                Self::expose(&mut state);
            }
            let from = if endpoint == IN { &mut state.answers } else { &mut state.transfers };
            if let Some(bytes) = from.pop_front() {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                return Ok(bytes.len());
            }
            drop(state);
            if Instant::now() >= end {
                return Err(U3vError::Timeout);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn next(camera: &mut impl Camera) -> Captured {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(captured) = camera.wait(Duration::from_millis(100)).unwrap() {
            return captured;
        }
        assert!(Instant::now() < limit, "no frame");
    }
}

#[test]
fn a_usb_camera_gives_whole_frames_in_their_order() {
    let usb = FakeUsb::new();
    let mut camera = usb.open("controls = { Offset = 7 }").unwrap();
    let mut frame = Frame::default();
    let mut before = None;
    for block in 1..=6u64 {
        let captured = next(&mut camera);
        assert_eq!((captured.lost, captured.damaged), (0, false));
        assert!(before < captured.at, "{before:?} {captured:?}");
        before = captured.at;
        camera.read(&mut frame).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.color()), (32, 24, Color::Gray));
        let expected: Vec<u8> = (0..SIZE.0 * SIZE.1).map(|i| pixel(i, block + 7)).collect();
        assert_eq!(frame.pixels(), expected);
    }
    drop(camera);
    // A camera that is let go sends nothing more, and can be opened again.
    assert_eq!(usb.state.lock().unwrap().memory[FEATURES + 20], 0);
    next(&mut usb.open("").unwrap());
}

#[test]
fn what_a_usb_camera_lost_or_cut_short_is_told() {
    let usb = FakeUsb::new();
    let mut camera = usb.open("").unwrap();
    let mut frame = Frame::default();
    next(&mut camera);
    for wrong in [Wrong::Skipped, Wrong::Half, Wrong::Refused] {
        usb.state.lock().unwrap().wrong = Some(wrong);
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let captured = next(&mut camera);
            let read = camera.read(&mut frame);
            assert_eq!(captured.damaged, read.is_err(), "{wrong:?} {captured:?}");
            match wrong {
                Wrong::Skipped if captured.lost == 1 && !captured.damaged => break,
                Wrong::Half | Wrong::Refused if captured.damaged => break,
                _ => assert_eq!((captured.lost, captured.damaged), (0, false), "{wrong:?}"),
            }
            assert!(Instant::now() < limit, "{wrong:?} is not told");
        }
    }
    let captured = next(&mut camera);
    assert_eq!((captured.lost, captured.damaged), (0, false));
}

#[test]
fn a_usb_camera_that_is_unplugged_is_told() {
    let usb = FakeUsb::new();
    let mut camera = usb.open("").unwrap();
    next(&mut camera);
    usb.gone.store(true, Relaxed);
    let limit = Instant::now() + Duration::from_secs(30);
    let told = loop {
        match camera.wait(Duration::from_millis(50)) {
            Ok(_) => assert!(Instant::now() < limit, "nobody misses the camera"),
            Err(e) => break e.chain(),
        }
    };
    assert!(told.contains("is gone") && told.contains("check cable and power"), "{told}");
    drop(camera);
}

#[test]
fn what_a_usb_camera_cannot_do_is_told_with_what_it_can() {
    let usb = FakeUsb::new();
    for (text, told) in [
        ("format = \"Mono12\"", "does not take the pixel format Mono12; it has Mono8, RGB8"),
        ("controls = { Gain = 1 }", "camera.controls.Gain"),
        ("controls = { Offset = 64 }", "camera.controls.Offset"),
    ] {
        let error = usb.open(text).err().unwrap().chain();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn a_camera_is_chosen_by_its_serial_number_wherever_it_is() {
    let usb = |serial: &str| {
        Found::Usb(viva_genicam::u3v::U3vDeviceInfo {
            bus: "1".into(),
            address: 4,
            vendor_id: 1,
            product_id: 2,
            serial: Some(serial.into()),
            manufacturer: None,
            model: Some("Fake".into()),
            speed: Some(viva_genicam::u3v::UsbSpeed::High),
        })
    };
    let all = [usb("U1"), usb("U2")];
    assert_eq!(choose(&all, Some("U2")).unwrap().serial(), Some("U2"));
    assert_eq!(choose(&all[..1], None).unwrap().serial(), Some("U1"));
    let told = choose(&all, None).unwrap_err().chain();
    assert!(told.contains("several cameras") && told.contains("serial number U2, on USB at"), "{told}");
    assert!(told.contains("use a USB 3 port and cable"), "{told}");
    assert!(
        choose(&all, Some("U3"))
            .unwrap_err()
            .chain()
            .contains("no camera \"U3\" is on the network or a USB port")
    );
    assert!(choose(&[], None).unwrap_err().chain().contains("none answers"));
}
