//! The registers: one table, from which requests are answered. `docs/modbus.md` shows the same table, and a
//! test compares them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::Exception;
use crate::inspector::Verdict;
use crate::record::{FaultKind, Record, State};

/// Counts up when a register changes its meaning. New registers in reserved places do not.
const VERSION: u16 = 1;
/// Addresses before it have a register or are reserved.
const END: u16 = 60;
/// Where the newest verdict, the next one to acknowledge, and the ring begin.
const NEWEST: u16 = 10;
const NEXT: u16 = 40;
const RING: u16 = 100;
/// Registers of a verdict, and verdicts in the ring.
const WIDTH: u16 = 8;
const SLOTS: u16 = 32;
const NEWEST_END: u16 = NEWEST + WIDTH;
const NEXT_END: u16 = NEXT + WIDTH;
const RING_END: u16 = RING + SLOTS * WIDTH;
/// Verdicts that wait for their acknowledgment.
const KEPT: usize = 256;
/// What a client may write.
pub(super) const COMMAND: u16 = 50;
const ACKNOWLEDGE: u16 = 51;
const RECIPE: u16 = 58;
/// Registers of an acknowledgment: run and sequence.
const ACKNOWLEDGE_WIDTH: usize = 4;
/// More than fits, or nothing to tell.
const UNKNOWN: u16 = u16::MAX;

/// One register, or two that hold a 32-bit number with its high word first.
#[cfg_attr(not(test), expect(dead_code, reason = "names are for the documents"))]
pub(super) struct Register<T> {
    pub at: u16,
    pub words: u16,
    pub name: &'static str,
    pub meaning: &'static str,
    value: fn(&T) -> u32,
}

const fn one<T>(at: u16, name: &'static str, meaning: &'static str, value: fn(&T) -> u32) -> Register<T> {
    Register { at, words: 1, name, meaning, value }
}

const fn two<T>(at: u16, name: &'static str, meaning: &'static str, value: fn(&T) -> u32) -> Register<T> {
    Register { at, words: 2, name, meaning, value }
}

/// The registers of the device.
pub(super) static DEVICE: [Register<Memory>; 22] = [
    one(0, "map version", "1. Another number: another map", |_| VERSION.into()),
    one(1, "heartbeat", "counts up once a second, from 65535 to 0", |m| m.heartbeat.into()),
    two(2, "run", "another number after each start and each new configuration, never 0", |m| m.run),
    one(4, "state", "1 Preoperational, 2 Halted, 3 Error, 4 Operational", |m| m.state_code()),
    one(5, "state bits", "the bits below, bit 0 is the lowest", |m| m.bits().into()),
    one(6, "recipe", "number of the recipe in use; 0: the configuration's package", |m| {
        m.moment.recipe.into()
    }),
    one(18, "newest verdict: age", "ms since the verdict; 65535: more, or no verdict", |m| m.age(m.newest())),
    two(20, "parts", "verdicts of this run, without lost ones", |m| m.parts as u32),
    two(22, "passes", "of these, verdict pass", |m| m.passes as u32),
    two(24, "rejects", "verdict reject", |m| m.rejects as u32),
    two(26, "faults", "verdict fault", |m| m.faults as u32),
    two(28, "lost", "verdicts that got lost before they were here. They have a sequence number", |m| {
        m.lost as u32
    }),
    two(30, "acknowledged", "highest acknowledged sequence number of this run", |m| m.acknowledged as u32),
    one(32, "waiting", "verdicts that wait to be acknowledged, at most 256", |m| m.waiting() as u32),
    two(34, "overruns", "verdicts that were dropped before they were acknowledged", |m| m.overruns as u32),
    one(48, "next verdict: age", "ms since the verdict; 65535: more, or no verdict", |m| m.age(m.next())),
    one(COMMAND, "command", "written: 0 none, 1 trigger, 2 halt, 3 resume", |m| {
        m.command.unwrap_or(0).into()
    }),
    two(ACKNOWLEDGE, "acknowledge: run", "written, together with the next; reads 0", |_| 0),
    two(ACKNOWLEDGE + 2, "acknowledge: sequence", "written; reads 0", |_| 0),
    one(55, "command result", "0 none yet, 1 carried out, 2 failed, 3 being carried out", |m| {
        m.result as u32
    }),
    two(56, "triggered part", "number of the part of the last trigger command; 0: none", |m| {
        m.triggered as u32
    }),
    one(RECIPE, "wanted recipe", "written: the recipe for the next parts; 65535: none wanted yet", |m| {
        m.wanted.unwrap_or(UNKNOWN).into()
    }),
];

/// The registers of a verdict, from its first.
pub(super) static VERDICT: [Register<Entry>; 6] = [
    two(0, "sequence", "counts verdicts from 1 in each run; 0: no verdict", |e| e.sequence as u32),
    two(2, "part", "number of the part in this run; 0: unknown", |e| e.part as u32),
    one(4, "verdict", "1 pass, 2 reject, 4 fault, 0 none or unknown. Anything but 1 is bad", |e| {
        e.verdict.into()
    }),
    one(5, "reason", "of a fault, see below; 0 otherwise", |e| e.reason.into()),
    one(6, "score", "1000 is the threshold; 65535: more, or no score", |e| e.score.into()),
    one(7, "latency", "ms from the trigger to the verdict; 65535: more", |e| e.latency.into()),
];

/// A bit of the state.
#[cfg_attr(not(test), expect(dead_code, reason = "names are for the documents"))]
pub(super) struct Bit {
    pub name: &'static str,
    pub meaning: &'static str,
    value: fn(&Memory) -> bool,
}

const fn bit(name: &'static str, meaning: &'static str, value: fn(&Memory) -> bool) -> Bit {
    Bit { name, meaning, value }
}

/// The bits, from bit 0.
pub(super) static BITS: [Bit; 12] = [
    bit("running", "state Operational", |m| m.moment.state == State::Operational),
    bit("error", "state Error", |m| m.moment.state == State::Error),
    bit("halted", "state Halted", |m| m.moment.state == State::Halted),
    bit("starting", "state Preoperational: starting or stopping", |m| {
        m.moment.state == State::Preoperational
    }),
    bit("pass last", "the newest verdict is pass", |m| m.newest().verdict == PASS),
    bit("reject last", "the newest verdict is reject", |m| m.newest().verdict == REJECT),
    bit("fault last", "the newest verdict is fault, or got lost", |m| {
        let newest = m.newest();
        newest.sequence > 0 && ![PASS, REJECT].contains(&newest.verdict)
    }),
    bit("waiting", "a verdict waits to be acknowledged", |m| m.waiting() > 0),
    bit("overrun", "verdicts were dropped that the next acknowledgment skips", |m| m.is_overrun()),
    bit("problem", "something does not work: the web page says what", |m| m.has_problem),
    bit("latched", "an error stays until somebody resumes the line", |m| m.moment.is_latched),
    bit("heartbeat", "changes once a second", |m| m.heartbeat % 2 == 1),
];

const PASS: u16 = 1;
const REJECT: u16 = 2;
const FAULT: u16 = 4;

/// The number of a fault's reason.
pub(super) fn reason(kind: FaultKind) -> u16 {
    match kind {
        FaultKind::Late => 1,
        FaultKind::Overflow => 2,
        FaultKind::Camera => 3,
        FaultKind::Unpaired => 4,
        FaultKind::Frozen => 5,
        FaultKind::Black => 6,
        FaultKind::OverExposed => 7,
        FaultKind::Defocused => 8,
        FaultKind::WrongFormat => 9,
        FaultKind::NotFinite => 10,
        FaultKind::Inspection => 11,
        FaultKind::Halted => 12,
        FaultKind::Stopped => 13,
    }
}

/// A verdict as a client reads it. All zero: there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    sequence: u64,
    part: u64,
    verdict: u16,
    reason: u16,
    score: u16,
    latency: u16,
    at: Option<Instant>,
}

impl Entry {
    fn new(record: &Record, at: Instant) -> Entry {
        let (verdict, reason) = match (&record.verdict, record.fault) {
            (Verdict::Pass, _) => (PASS, 0),
            (Verdict::Reject, _) => (REJECT, 0),
            (Verdict::Fault(_), kind) => (FAULT, reason(kind.unwrap_or(FaultKind::Inspection))),
        };
        // The score of a fault counts for nothing.
        let inspection = record.inspection().filter(|_| verdict != FAULT);
        let score = inspection.map_or(f32::NAN, |i| i.score / i.threshold * 1000.0);
        Entry {
            sequence: 0,
            part: record.part,
            verdict,
            reason,
            // Of a number out of range the nearest is taken.
            score: if score.is_nan() { UNKNOWN } else { score.round() as u16 },
            latency: milliseconds(record.latency),
            at: Some(at),
        }
    }
}

/// Whole milliseconds, rounded up.
fn milliseconds(time: Duration) -> u16 {
    u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(UNKNOWN)
}

/// How the last command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    #[default]
    None = 0,
    Done = 1,
    Failed = 2,
    Busy = 3,
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Trigger,
    Halt,
    Resume,
    Recipe(u16),
}

impl Command {
    fn from_number(number: u16) -> Result<Option<Command>, Exception> {
        match number {
            0 => Ok(None),
            1 => Ok(Some(Command::Trigger)),
            2 => Ok(Some(Command::Halt)),
            3 => Ok(Some(Command::Resume)),
            _ => Err(Exception::IllegalValue),
        }
    }
}

/// What registers are read from.
pub(super) struct Memory {
    run: u32,
    heartbeat: u16,
    /// Sequence number of the newest verdict.
    sequence: u64,
    /// The latest, in the order of their sequence numbers, without gaps.
    entries: VecDeque<Entry>,
    acknowledged: u64,
    /// Whether anything was acknowledged in this run.
    is_followed: bool,
    overruns: u64,
    parts: u64,
    passes: u64,
    rejects: u64,
    faults: u64,
    lost: u64,
    /// The command register. `None` until it is written.
    command: Option<u16>,
    /// The recipe that was written last.
    wanted: Option<u16>,
    pub result: Outcome,
    pub triggered: u64,
    pub has_problem: bool,
    /// What the line was like when this was looked at.
    pub moment: Moment,
}

/// What is not remembered but looked at, once for each request.
pub(super) struct Moment {
    pub state: State,
    pub is_latched: bool,
    pub recipe: u16,
    pub now: Instant,
}

impl Memory {
    /// Without verdicts, for a run with 16 hexadecimal digits.
    pub fn new(run: &str) -> Memory {
        // Another name still gives a number that is not 0.
        let number = run.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        Memory {
            run: number.unwrap_or(1).max(1),
            heartbeat: 0,
            sequence: 0,
            entries: VecDeque::with_capacity(KEPT + 1),
            acknowledged: 0,
            is_followed: false,
            overruns: 0,
            parts: 0,
            passes: 0,
            rejects: 0,
            faults: 0,
            lost: 0,
            command: None,
            wanted: None,
            result: Outcome::None,
            triggered: 0,
            has_problem: false,
            moment: Moment {
                state: State::Preoperational,
                is_latched: false,
                recipe: 0,
                now: Instant::now(),
            },
        }
    }

    pub fn beat(&mut self) {
        self.heartbeat = self.heartbeat.wrapping_add(1);
    }

    /// Takes a verdict.
    pub fn add(&mut self, record: &Record) {
        let entry = Entry::new(record, Instant::now());
        self.parts += 1;
        *match entry.verdict {
            PASS => &mut self.passes,
            REJECT => &mut self.rejects,
            _ => &mut self.faults,
        } += 1;
        self.push(entry);
    }

    /// Takes note of verdicts that are not known. They have sequence numbers, so that they are missed.
    pub fn add_lost(&mut self, count: u64) {
        self.lost += count;
        for _ in 0..count {
            self.push(Entry::default());
        }
    }

    fn push(&mut self, entry: Entry) {
        self.sequence += 1;
        self.entries.push_back(Entry { sequence: self.sequence, ..entry });
        if self.entries.len() > KEPT
            && let Some(oldest) = self.entries.pop_front()
            && oldest.sequence > self.acknowledged
        {
            self.overruns += 1;
        }
    }

    /// The sequence number before that of the oldest verdict here.
    fn gone(&self) -> u64 {
        self.sequence - self.entries.len() as u64
    }

    fn waiting(&self) -> u64 {
        self.sequence - self.acknowledged.max(self.gone())
    }

    /// Whether a client acknowledges verdicts, and not fast enough.
    pub fn is_overrun(&self) -> bool {
        self.is_followed && self.gone() > self.acknowledged
    }

    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    fn of_sequence(&self, sequence: u64) -> Entry {
        let index = sequence.checked_sub(self.gone() + 1).and_then(|i| usize::try_from(i).ok());
        index.and_then(|i| self.entries.get(i)).copied().unwrap_or_default()
    }

    fn newest(&self) -> Entry {
        self.of_sequence(self.sequence)
    }

    /// The oldest that is not acknowledged.
    fn next(&self) -> Entry {
        self.of_sequence(self.acknowledged.max(self.gone()) + 1)
    }

    /// The latest whose sequence number has this remainder.
    fn slot(&self, slot: u16) -> Entry {
        let (slots, slot) = (u64::from(SLOTS), u64::from(slot));
        let behind = (self.sequence + slots - slot) % slots;
        self.sequence.checked_sub(behind).map_or_else(Entry::default, |sequence| self.of_sequence(sequence))
    }

    /// Takes a write: all of it, or nothing. Returns the command that is to be carried out.
    ///
    /// # Errors
    /// Why nothing takes place.
    pub fn write(&mut self, from: u16, values: &[u16]) -> Result<Option<Command>, Exception> {
        let (command, acknowledgment) = match (from, values) {
            (RECIPE, &[number]) => return Ok(self.chosen(number)),
            (COMMAND, &[command]) => (Some(command), None),
            (COMMAND, [command, rest @ ..]) if rest.len() == ACKNOWLEDGE_WIDTH => {
                (Some(*command), Some(rest))
            }
            (ACKNOWLEDGE, rest) if rest.len() == ACKNOWLEDGE_WIDTH => (None, Some(rest)),
            // Half an acknowledgment may be of another verdict.
            _ => return Err(Exception::IllegalAddress),
        };
        let acknowledged = match acknowledgment {
            Some(&[a, b, c, d]) => self.acknowledged_by(double(a, b), double(c, d))?,
            _ => None,
        };
        let due = command.map_or(Ok(None), |number| self.due(number))?;
        if let Some(sequence) = acknowledged {
            self.is_followed = true;
            self.acknowledged = self.acknowledged.max(sequence);
        }
        self.command = command.or(self.command);
        if due.is_some() {
            self.result = Outcome::Busy;
        }
        Ok(due)
    }

    /// A recipe is requested when its register changes, so one that is written in every cycle is requested once.
    fn chosen(&mut self, number: u16) -> Option<Command> {
        let before = self.wanted.replace(number);
        let is_due = number != UNKNOWN && before != Some(number);
        if is_due {
            self.result = Outcome::Busy;
        }
        is_due.then_some(Command::Recipe(number))
    }

    /// A recipe that could not be asked for is due again when it is written again.
    pub fn failed(&mut self, command: Command) {
        if self.wanted.map(Command::Recipe) == Some(command) {
            self.wanted = None;
        }
    }

    /// The sequence number that an acknowledgment means. Zeros mean none.
    fn acknowledged_by(&self, run: u32, sequence: u32) -> Result<Option<u64>, Exception> {
        if (run, sequence) == (0, 0) {
            return Ok(None);
        }
        let behind = (self.sequence as u32).wrapping_sub(sequence);
        let sequence = self.sequence.checked_sub(behind.into()).filter(|_| run == self.run);
        sequence.map(Some).ok_or(Exception::IllegalValue)
    }

    /// A command is carried out when its register changes from 0. So one that is written in every cycle, or
    /// once more after a lost answer, is carried out once; and one that stood before the start is not. A halt
    /// needs no 0 before it.
    fn due(&self, number: u16) -> Result<Option<Command>, Exception> {
        match (Command::from_number(number)?, self.command) {
            (None, _) => Ok(None),
            (Some(_), Some(before)) if before == number => Ok(None),
            (Some(command), Some(0)) => Ok(Some(command)),
            (Some(Command::Halt), _) => Ok(Some(Command::Halt)),
            (Some(_), _) => Err(Exception::IllegalValue),
        }
    }

    /// A register.
    ///
    /// # Errors
    /// [`Exception::IllegalAddress`] where none is.
    pub fn register(&self, address: u16) -> Result<u16, Exception> {
        let verdict = |entry: Entry, within| Ok(found(&VERDICT, &entry, within));
        match address {
            NEWEST..NEWEST_END => verdict(self.newest(), address - NEWEST),
            NEXT..NEXT_END => verdict(self.next(), address - NEXT),
            0..END => Ok(found(&DEVICE, self, address)),
            RING..RING_END => verdict(self.slot((address - RING) / WIDTH), (address - RING) % WIDTH),
            _ => Err(Exception::IllegalAddress),
        }
    }

    /// A bit.
    ///
    /// # Errors
    /// [`Exception::IllegalAddress`] where none is.
    pub fn bit(&self, address: u16) -> Result<bool, Exception> {
        let bit = BITS.get(usize::from(address)).ok_or(Exception::IllegalAddress)?;
        Ok((bit.value)(self))
    }

    fn bits(&self) -> u16 {
        BITS.iter().enumerate().fold(0, |bits, (i, bit)| bits | (u16::from((bit.value)(self)) << i))
    }

    fn state_code(&self) -> u32 {
        match self.moment.state {
            State::Preoperational => 1,
            State::Halted => 2,
            State::Error => 3,
            State::Operational => 4,
        }
    }

    fn age(&self, entry: Entry) -> u32 {
        let age = entry.at.map(|at| milliseconds(self.moment.now.saturating_duration_since(at)));
        age.unwrap_or(UNKNOWN).into()
    }
}

fn double(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

/// The word at an address. A reserved one is 0.
fn found<T>(registers: &[Register<T>], of: &T, address: u16) -> u16 {
    let register = registers.iter().find(|r| (r.at..r.at + r.words).contains(&address));
    register.map_or(0, |r| {
        let value = (r.value)(of);
        let is_high = r.words == 2 && address == r.at;
        if is_high { (value >> 16) as u16 } else { value as u16 }
    })
}
