//! The registers, read by an independent client (pymodbus); and clients that do what they should not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::map::{BITS, DEVICE, VERDICT, reason};
use super::{Modbus, Settings};
use crate::access::Audit;
use crate::output::tests::common::skip;
use crate::output::web::tests::scene::{Line, faulty, good, scratched};
use crate::output::{Control, Output};
use crate::record::{FaultKind, Record};
use crate::{ErrorKind, Frame};

const RUN: &str = "000200030000abcd";
const RUN_NUMBER: u32 = 0x0002_0003;
const PATIENCE: Duration = Duration::from_secs(30);

fn writable() -> Settings {
    Settings { listen: "127.0.0.1:0".into(), allow_write: true, ..Default::default() }
}

/// A server, and the line behind it.
fn started(settings: &Settings) -> (Modbus, Arc<Line>) {
    let line = Line::new(true);
    let modbus = Modbus::start(settings, RUN, Arc::clone(&line) as Arc<dyn Control>).unwrap();
    (modbus, line)
}

/// A command of `tests/modbus/plc.py`. `None`, said aloud, without pymodbus.
fn plc(task: &str, address: SocketAddr, more: &[&str]) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python =
        std::env::var_os("WEAKREST_PYTHON").map_or(root.join("target/venv/bin/python"), PathBuf::from);
    let mut has_it = Command::new(&python);
    has_it.args(["-c", "import pymodbus"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !has_it.status().is_ok_and(|status| status.success()) {
        skip("no pymodbus (make python): Modbus is not tested with another program");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root.join("tests/modbus/plc.py")).arg(task).arg(address.port().to_string()).args(more);
    Some(command)
}

/// What it prints, line by line.
fn ran(mut command: Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Exception codes of requests, as `plc.py` spells them.
fn attempted(address: SocketAddr, source: &str, requests: &[&str]) -> Option<Value> {
    Some(ran(plc("attempt", address, &[&[source], requests].concat())?).remove(0))
}

/// A connection without a library.
struct Raw(TcpStream);

impl Raw {
    fn new(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw(stream)
    }

    /// The answer to a request, from its function code. `None` if the connection was closed.
    fn ask(&mut self, pdu: &[u8]) -> Option<Vec<u8>> {
        self.0.write_all(&framed(pdu)).ok()?;
        let mut header = [0; 7];
        self.0.read_exact(&mut header).ok()?;
        assert_eq!(header[..4], [1, 2, 0, 0]);
        let mut answer = vec![0; usize::from(header[5]) - 1];
        self.0.read_exact(&mut answer).ok()?;
        Some(answer)
    }

    fn read(&mut self, from: u16, count: u16) -> Vec<u16> {
        let answer = self.ask(&words(3, &[from, count])).unwrap();
        assert_eq!(answer[..2], [3, (2 * count) as u8], "{answer:?}");
        answer[2..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// The exception of a write, or 0.
    fn write(&mut self, from: u16, values: &[u16]) -> u8 {
        let mut pdu = words(16, &[from, values.len() as u16]);
        pdu.push(2 * values.len() as u8);
        pdu.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        match self.ask(&pdu).unwrap()[..] {
            [0x90, exception] => exception,
            _ => 0,
        }
    }

    fn acknowledge(&mut self, sequence: u16) -> u8 {
        self.write(51, &[2, 3, 0, sequence])
    }

    fn is_closed(&mut self) -> bool {
        !matches!(self.0.read(&mut [0; 300]), Ok(1..))
    }
}

fn framed(pdu: &[u8]) -> Vec<u8> {
    [&[1, 2, 0, 0, 0, pdu.len() as u8 + 1, 255][..], pdu].concat()
}

fn words(function: u8, words: &[u16]) -> Vec<u8> {
    std::iter::once(function).chain(words.iter().flat_map(|word| word.to_be_bytes())).collect()
}

fn publish(modbus: &mut Modbus, record: &Record) {
    let begun = Instant::now();
    modbus.publish(record).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "held up for {:?}", begun.elapsed());
}

fn double(registers: &[u16], at: usize) -> u32 {
    u32::from(registers[at]) << 16 | u32::from(registers[at + 1])
}

/// A part that passes, is rejected, or is a fault, without a picture: making one takes long.
fn quick(part: u64, kind: u64) -> Record {
    static MADE: OnceLock<[Record; 3]> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        [good(1), scratched(1), faulty(1, FaultKind::Late, "late")].map(|mut record| {
            (record.has_frame, record.frame_buffer) = (false, Frame::default());
            record.inspection_buffer.map.values.clear();
            record
        })
    });
    Record { part, ..made[kind as usize].clone() }
}

#[test]
fn the_documented_map_is_the_real_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/modbus.md");
    let text = std::fs::read_to_string(path).unwrap();
    let place = |at: u16, words: u16| match words {
        1 => at.to_string(),
        _ => format!("{at}–{}", at + 1),
    };
    let mut rows: Vec<String> =
        DEVICE.iter().map(|r| format!("| {} | {} | {} |", place(r.at, r.words), r.name, r.meaning)).collect();
    rows.extend(
        VERDICT.iter().map(|r| format!("| +{} | {} | {} |", place(r.at, r.words), r.name, r.meaning)),
    );
    rows.extend(BITS.iter().enumerate().map(|(i, bit)| format!("| {i} | {} | {} |", bit.name, bit.meaning)));
    rows.extend(FaultKind::ALL.map(|kind| format!("| {} | {} |", reason(kind), kind.name())));
    for row in &rows {
        assert!(text.lines().any(|line| line == row), "docs/modbus.md lacks {row}");
    }
    // No row with an address or a bit is of something else.
    let is_row = |line: &&str| {
        let cell = line.strip_prefix("| ").and_then(|line| line.split(" |").next()).unwrap_or_default();
        let number = cell.trim_start_matches('+').split('–').next().unwrap_or_default();
        line.matches('|').count() == 4 && number.parse::<u16>().is_ok()
    };
    for line in text.lines().filter(is_row) {
        assert!(rows.iter().any(|row| row == line), "docs/modbus.md has {line}");
    }
    // Registers do not overlap, within the device or with the verdicts in it.
    let mut taken: Vec<u16> = DEVICE.iter().flat_map(|r| r.at..r.at + r.words).collect();
    taken.extend((10..18).chain(40..48));
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((taken.len(), taken.last().is_some_and(|last| *last < 60)), (count, true));
}

#[test]
fn settings_have_the_documented_defaults_and_refuse_the_rest() {
    let settings: Settings = toml::from_str("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!((settings.listen.as_str(), settings.allow_write), ("127.0.0.1:1502", false));
    settings.validate().unwrap();
    for (text, key) in [
        ("listen = 'plc'", "modbus.listen"),
        ("read_from = ['plc']", "modbus.read_from"),
        ("write_from = ['10.0.0.0/8']", "modbus.write_from"),
        ("allow_write = true\nlisten = '0.0.0.0:502'", "modbus.write_from"),
        ("connections = 0", "modbus.connections"),
        ("connections = 65", "modbus.connections"),
        ("idle_seconds = 0", "modbus.idle_seconds"),
        ("require_poll_seconds = 0", "modbus.require_poll_seconds"),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap().validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with(&format!("{key}: ")), "{}", error.chain());
    }
    let settings: Settings = toml::from_str(
        "allow_write = true\nlisten = '[::]:502'\nwrite_from = ['::ffff:10.0.0.7', 'fd00::1']",
    )
    .unwrap();
    settings.validate().unwrap();
    let may =
        |from: &str| (settings.may_read(from.parse().unwrap()), settings.may_write(from.parse().unwrap()));
    assert_eq!((may("10.0.0.7"), may("10.0.0.8")), ((true, true), (true, false)));
    let told = Settings { read_from: vec!["10.0.0.9".into()], ..settings }.to_string();
    assert_eq!(
        told,
        "on [::]:502; read by 10.0.0.9, ::ffff:10.0.0.7, fd00::1; written by ::ffff:10.0.0.7, fd00::1"
    );
}

#[test]
fn another_program_reads_what_is_documented() {
    let (mut modbus, line) = started(&writable());
    let Some(empty) = plc("read", modbus.address(), &[]) else { return };
    let empty = ran(empty).remove(0);
    let mut nothing = vec![0; 60];
    (nothing[0], nothing[2], nothing[3], nothing[4]) = (1, 2, 3, 4);
    (nothing[5], nothing[18], nothing[48], nothing[58]) = (1, 65535, 65535, 65535);
    assert_eq!(empty["holding"], json!(nothing), "zeros are no verdict");
    assert_eq!(empty["ring"], json!(vec![0; 256]));

    let mut second = scratched(70_002);
    (second.latency, second.inspection_buffer.score) = (Duration::from_micros(70_001), 1e9);
    let mut third = faulty(70_003, FaultKind::OverExposed, "too bright");
    // A fault is never read as a pass, whatever else is known of it.
    (third.has_inspection, third.latency) = (true, Duration::from_secs(100));
    let mut first = good(70_001);
    (first.latency, first.inspection_buffer.score) = (Duration::from_millis(21), 1.25);
    for record in [&first, &second, &third] {
        publish(&mut modbus, record);
    }
    modbus.tick(SystemTime::now(), line.status()).unwrap();
    let told = ran(plc("read", modbus.address(), &[]).unwrap()).remove(0);
    let holding: Vec<u16> = serde_json::from_value(told["holding"].clone()).unwrap();
    let verdicts = [
        [0, 1, 1, 4465, 1, 0, 500, 21],
        [0, 2, 1, 4466, 2, 0, 65535, 71],
        [0, 3, 1, 4467, 4, 7, 65535, 65535],
    ];
    assert_eq!((&holding[10..18], &holding[40..48]), (&verdicts[2][..], &verdicts[0][..]));
    assert_eq!(holding[1], 1, "the heartbeat");
    // Parts, passes, rejects, faults, lost; acknowledged, waiting.
    assert_eq!(holding[20..33], [0, 3, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 3]);
    assert!(holding[18] < holding[48] || holding[48] == 65535 || holding[18] == holding[48]);
    let ring: Vec<u16> = serde_json::from_value(told["ring"].clone()).unwrap();
    assert_eq!(ring[..8], [0; 8]);
    assert_eq!(ring[8..32], verdicts.concat());
    assert_eq!(ring[32..], [0; 224]);
    let running_fault_waiting_beat = [0, 6, 7, 11];
    let bits: Vec<bool> = (0..12).map(|i| running_fault_waiting_beat.contains(&i)).collect();
    assert_eq!((&told["coils"], &told["discrete"]), (&json!(bits), &json!(bits)));
    assert_eq!(holding[5], 0b1000_1100_0001);
    let mut input: Vec<u16> = serde_json::from_value(told["input"].clone()).unwrap();
    (input[18], input[48]) = (holding[18], holding[48]);
    assert_eq!(input, holding, "but for the ages");

    line.set_halted(true).unwrap();
    let mut raw = Raw::new(modbus.address());
    assert_eq!((raw.read(4, 2), line.status().is_halted()), (vec![2, 0b1000_1100_0100], true));
    line.set_halted(false).unwrap();
    line.status().latch("gate", "part 3 may have passed");
    assert_eq!(raw.read(4, 2), [3, 0b1100_1100_0010]);
    modbus.tick(SystemTime::now(), line.status()).unwrap();
    assert_eq!(raw.read(4, 2), [3, 0b0110_1100_0010]);
}

#[test]
fn each_verdict_is_handled_once_over_lost_connections() {
    for seed in ["1", "2"] {
        let (mut modbus, _line) = started(&writable());
        let Some(mut follower) = plc("follow", modbus.address(), &["100", seed]) else { return };
        let follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for part in 1..=100 {
            publish(&mut modbus, &quick(part, u64::from(part % 3 == 0)));
            thread::sleep(Duration::from_millis(part % 5 * 4));
        }
        let output = follower.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let handled: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected: Vec<Value> = (1..=100)
            .map(|n| {
                let verdict = if n % 3 == 0 { 2 } else { 1 };
                json!({"run": RUN_NUMBER, "sequence": n, "missing": 0, "part": n, "verdict": verdict})
            })
            .collect();
        assert_eq!(handled, expected);
    }
}

#[test]
fn what_is_not_acknowledged_in_time_is_missed_and_told() {
    let (mut modbus, line) = started(&writable());
    let mut raw = Raw::new(modbus.address());
    publish(&mut modbus, &good(1));
    assert_eq!(raw.acknowledge(1), 0);
    for part in 2..=258 {
        publish(&mut modbus, &quick(part, 0));
    }
    // One is dropped: the next has the number 3.
    let told = modbus.tick(SystemTime::now(), line.status()).unwrap_err().chain();
    assert!(told.starts_with("the PLC acknowledges too slowly or not at all: 1 verdicts"), "{told}");
    let registers = raw.read(0, 60);
    assert_eq!((double(&registers, 40), double(&registers, 30), double(&registers, 34)), (3, 1, 1));
    assert_eq!((registers[32], registers[5] & 1 << 8), (256, 1 << 8));
    // The ring has the latest, whoever acknowledges what.
    for sequence in 227..=258 {
        let slot = raw.read(100 + 8 * (sequence % 32), 8);
        assert_eq!((double(&slot, 0), double(&slot, 2)), (sequence.into(), sequence.into()));
    }
    assert_eq!((raw.acknowledge(3), raw.acknowledge(2)), (0, 0), "an older one changes nothing");
    modbus.tick(SystemTime::now(), line.status()).unwrap();
    let registers = raw.read(0, 60);
    assert_eq!((double(&registers, 40), double(&registers, 30), registers[5] & 1 << 8), (4, 3, 0));
    assert_eq!((raw.acknowledge(258), raw.read(40, 8)), (0, vec![0; 8]));
    // A client that never acknowledged does not want to.
    let (mut modbus, line) = started(&writable());
    (1..=300).for_each(|part| publish(&mut modbus, &quick(part, 0)));
    modbus.tick(SystemTime::now(), line.status()).unwrap();
}

#[test]
fn verdicts_that_got_lost_have_numbers_and_are_no_pass() {
    let (mut modbus, line) = started(&writable());
    let mut raw = Raw::new(modbus.address());
    publish(&mut modbus, &good(1));
    line.status().output("modbus").dropped.fetch_add(2, Relaxed);
    publish(&mut modbus, &good(4));
    assert_eq!(raw.acknowledge(1), 0);
    assert_eq!(raw.read(40, 8), [0, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!((double(&raw.read(10, 2), 0), raw.read(20, 10)), (4, vec![0, 2, 0, 2, 0, 0, 0, 0, 0, 2]));
    line.status().output("modbus").dropped.fetch_add(1, Relaxed);
    modbus.tick(SystemTime::now(), line.status()).unwrap();
    assert_eq!(raw.read(10, 8), [0, 5, 0, 0, 0, 0, 0, 0]);
    assert_eq!(raw.read(5, 1)[0] & 0b111_0000, 0b100_0000, "the newest is unknown, so bad");
}

#[test]
fn another_program_is_refused_what_it_may_not_do() {
    let settings = Settings { write_from: vec!["127.0.0.2".into()], ..writable() };
    let (mut modbus, line) = started(&settings);
    publish(&mut modbus, &good(1));
    let told = attempted(
        modbus.address(),
        "127.0.0.2",
        &[
            "read,0,60",
            "read,0,61",
            "read,59,1",
            "read,60,1",
            "read,348,8",
            "read,348,9",
            "read,65535,1",
            "coils,0,12",
            "coils,0,13",
            "write,0,1",
            "write,49,0",
            "write,51,0",
            "block,51,2,3",
            "block,52,3,0,1",
            "block,51,2,3,0,1,0",
            // Of another run; of a part that does not exist; of this run's first.
            "block,51,2,4,0,1",
            "block,51,2,3,0,2",
            "block,51,2,3,0,1",
            "block,51,0,0,0,0",
            // No such command; one without a 0 before it; and then.
            "write,50,4",
            "write,50,1",
            "write,50,0",
            "write,50,1",
            "exchange,300,50,0",
            "exchange,356,50,2",
            "exchange,57,50,0,0,0,0,0",
            "coil,0,1",
            "mask,50,2",
            "identify,0",
        ],
    );
    let Some(told) = told else { return };
    let expected = [0, 2, 0, 2, 0, 2, 2, 0, 2, 2, 2, 2, 2, 2, 2, 3, 3, 0, 0, 3, 3, 0, 0, 0, 2, 0, 1, 1, 1];
    assert_eq!(told, json!(expected));
    assert_eq!(*line.asked.lock().unwrap(), ["trigger"], "what is refused is not carried out");
    // From elsewhere only reading works, and without the permission too.
    let forbidden = ["read,0,60", "write,50,2", "block,51,2,3,0,1", "exchange,0,50,2", "read,0,1"];
    let told = attempted(modbus.address(), "127.0.0.1", &forbidden).unwrap();
    assert_eq!(told, json!([0, 1, 1, 1, 0]));
    let (modbus, line) = started(&Settings { allow_write: false, ..settings });
    assert_eq!(attempted(modbus.address(), "127.0.0.2", &forbidden).unwrap(), json!([0, 1, 1, 1, 0]));
    assert!(line.asked.lock().unwrap().is_empty());
    let (modbus, _line) = started(&Settings { read_from: vec!["127.0.0.3".into()], ..writable() });
    assert_eq!(attempted(modbus.address(), "127.0.0.1", &["read,0,1"]).unwrap(), json!([null]));
    assert_eq!(attempted(modbus.address(), "127.0.0.3", &["read,0,1"]).unwrap(), json!([0]));
}

#[test]
fn a_command_is_carried_out_once_however_often_it_is_written() {
    let (modbus, line) = started(&writable());
    let mut raw = Raw::new(modbus.address());
    let asked = || line.asked.lock().unwrap().clone();
    // What stood in a PLC before the start is no command, unless it is the safe one.
    assert_eq!((raw.write(50, &[1]), raw.write(50, &[3]), raw.write(50, &[2])), (3, 3, 0));
    assert_eq!((asked(), line.status().is_halted()), (vec!["halt"], true));
    assert_eq!(raw.write(50, &[3]), 3, "not without a 0");
    // In each cycle, with an acknowledgment of nothing.
    for command in [0, 3, 3, 3, 0, 0, 1, 1, 0, 1, 2, 2, 0] {
        assert_eq!(raw.write(50, &[command, 0, 0, 0, 0]), 0);
    }
    assert_eq!(asked(), ["halt", "resume", "trigger", "trigger", "halt"]);
    assert_eq!(raw.read(50, 8), [0, 0, 0, 0, 0, 1, 0, 2], "the second part was triggered");
    // A recipe, in each cycle; 65535 is none.
    for recipe in [65535, 7, 7, 7, 8, 65535, 8, 0] {
        assert_eq!(raw.write(58, &[recipe]), 0);
    }
    // Recipe 0 is in use, but another one can be on its way.
    assert_eq!(asked()[5..], ["recipe"; 4]);
    assert_eq!((raw.read(58, 1), raw.read(6, 1)), (vec![0], vec![0]));
    // All or nothing.
    assert_eq!(raw.write(50, &[3, 9, 9, 0, 1]), 3);
    assert!(line.status().is_halted());

    let line = Line::new(false);
    let modbus = Modbus::start(&writable(), RUN, Arc::clone(&line) as Arc<dyn Control>).unwrap();
    let mut raw = Raw::new(modbus.address());
    assert_eq!((raw.write(50, &[0]), raw.write(50, &[1]), raw.write(50, &[1])), (0, 4, 0));
    assert_eq!(raw.read(55, 3), [2, 0, 0]);
}

#[test]
fn a_recipe_that_could_not_be_recorded_is_asked_for_with_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    // A folder in the file's place takes no line, like a full disk.
    let file = folder.path().join("audit.jsonl");
    std::fs::create_dir(&file).unwrap();
    let audit = Some(Audit::open(folder.path().to_owned()).unwrap());
    let line = Line::new(true);
    let control = Arc::clone(&line) as Arc<dyn Control>;
    let modbus = Modbus::with_audit(&writable(), RUN, control, audit).unwrap();
    let mut raw = Raw::new(modbus.address());
    assert_eq!((raw.write(58, &[7]), raw.write(58, &[7])), (4, 4));
    assert!(line.asked.lock().unwrap().is_empty());
    std::fs::remove_dir(&file).unwrap();
    assert_eq!((raw.write(58, &[7]), raw.write(58, &[7])), (0, 0));
    assert_eq!(*line.asked.lock().unwrap(), ["recipe"]);
}

#[test]
fn registers_of_one_request_are_of_one_moment() {
    let (mut modbus, _line) = started(&writable());
    let address = modbus.address();
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let reader = thread::spawn(move || {
        let mut raw = Raw::new(address);
        let mut seen = 0;
        while !until.load(Relaxed) {
            let registers = raw.read(0, 60);
            let [parts, passes, rejects, faults] = [20, 22, 24, 26].map(|at| double(&registers, at));
            assert_eq!(parts, passes + rejects + faults);
            assert_eq!(
                (double(&registers, 10), double(&registers, 12)),
                (parts, 70_000 * u32::from(parts > 0) + parts)
            );
            let verdict = [0, 1, 2, 4][usize::from(parts > 0) + parts as usize % 3 * usize::from(parts > 0)];
            assert_eq!(registers[14], verdict);
            seen = parts;
        }
        seen
    });
    let mut part = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) || part < 300 {
        part += 1;
        let record = quick(70_000 + part, part % 3);
        publish(&mut modbus, &record);
    }
    done.store(true, Relaxed);
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn whoever_sends_garbage_floods_or_falls_silent_disturbs_nobody() {
    let (mut modbus, _line) = started(&Settings { idle_seconds: 1, ..writable() });
    let address = modbus.address();
    // The PLC polls all the time.
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let mut raw = Raw::new(address);
    let plc = thread::spawn(move || {
        while !until.load(Relaxed) {
            raw.read(0, 60);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut part = 0;
    let mut passes = |modbus: &mut Modbus| {
        part += 1;
        publish(modbus, &quick(part, 0));
    };
    // Half a request: closed below.
    let mut half = Raw::new(address);
    half.0.write_all(&framed(&words(3, &[0, 60]))[..9]).unwrap();
    // No Modbus: closed at once.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 300],
        &[255; 300],
        // A length of 0, 1 and 255; another protocol.
        &[0, 1, 0, 0, 0, 0, 1, 3],
        &[0, 1, 0, 0, 0, 1, 1],
        &[0, 1, 0, 0, 0, 255, 1],
        &[0, 1, 0, 1, 0, 6, 1, 3, 0, 0, 0, 1],
    ] {
        let mut raw = Raw::new(address);
        let _ = raw.0.write_all(bytes);
        assert!(raw.is_closed(), "{bytes:?}");
        passes(&mut modbus);
    }
    // Every function, with bodies of every length: an exception, or an answer.
    let mut raw = Raw::new(address);
    for function in 0..=255u8 {
        for length in [0, 4, 9] {
            let pdu = [&[function][..], &vec![function.wrapping_mul(7); length]].concat();
            let answer = raw.ask(&pdu).unwrap();
            assert_eq!((answer[0] | 0x80, answer.len()), (function | 0x80, 2), "{pdu:?}: {answer:?}");
        }
    }
    assert!(half.is_closed());
    // Many connections. The one in use stays, and none is kept for long.
    let crowd: Vec<Raw> = (0..200).map(|_| Raw::new(address)).collect();
    passes(&mut modbus);
    // A flood that is not read.
    let request = framed(&words(3, &[0, 125])).repeat(100);
    for raw in &crowd {
        raw.0.set_nonblocking(true).unwrap();
        for _ in 0..100 {
            if (&raw.0).write(&request).is_err() {
                break;
            }
        }
        passes(&mut modbus);
    }
    assert!(!plc.is_finished(), "the PLC was disturbed");
    drop(crowd);
    done.store(true, Relaxed);
    plc.join().unwrap();
    // Room for others again.
    let begun = Instant::now();
    loop {
        let mut raw = Raw::new(address);
        if raw.ask(&words(3, &[0, 1])).is_some() {
            assert!(raw.is_closed(), "nothing was asked for a second");
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn the_plc_finds_a_place_among_those_who_flood() {
    let settings = Settings { write_from: vec!["127.0.0.2".into()], ..writable() };
    let (modbus, _line) = started(&settings);
    let address = modbus.address();
    let done = Arc::new(AtomicBool::new(false));
    let flood = |_| {
        let until = Arc::clone(&done);
        thread::spawn(move || {
            while !until.load(Relaxed) {
                let mut raw = Raw::new(address);
                while !until.load(Relaxed) && raw.ask(&words(3, &[0, 125])).is_some() {}
            }
        })
    };
    let crowd: Vec<_> = (0..16).map(flood).collect();
    let requests = ["read,0,60"; 30];
    let told: Vec<_> = (0..3).map(|_| attempted(address, "127.0.0.2", &requests)).collect();
    done.store(true, Relaxed);
    crowd.into_iter().for_each(|thread| thread.join().unwrap());
    if told[0].is_some() {
        assert_eq!(told, vec![Some(json!(vec![0; 30])); 3]);
    }
}

#[test]
fn a_plc_that_does_not_poll_is_told_until_it_does() {
    let (mut modbus, line) = started(&Settings { require_poll_seconds: Some(1), ..writable() });
    let mut raw = Raw::new(modbus.address());
    raw.read(0, 1);
    let begun = Instant::now();
    let told = loop {
        match modbus.tick(SystemTime::now(), line.status()) {
            // Asking for what does not exist is no poll.
            Ok(()) => assert_eq!(raw.ask(&words(3, &[99, 1])), Some(vec![0x83, 2])),
            Err(e) => break e.chain(),
        }
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(told, "no PLC has polled for 1 s; check the network and the PLC");
    publish(&mut modbus, &good(1));
    raw.read(0, 1);
    modbus.tick(SystemTime::now(), line.status()).unwrap();
}
