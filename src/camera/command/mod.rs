//! A program that writes raw frames to its standard output: `kind = "command"`.
//!
//! So Argus, libcamera, RTSP and vendors' programs are cameras without being linked. The program has its own process group.
//! It is killed with the group when the camera is closed or gives no frame in time, and started again then.

use std::io::{BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::formats::PixelFormat;
use super::pixels::{Layout, Range};
use super::{Camera, Captured, OpenCamera, Timing};
use crate::clock::at_monotonic;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::range;

/// Bytes before each frame with `header = true`: time and number, each 64 bits, little-endian.
const HEADER: usize = 16;

/// Frames between the program and the pipeline. Further ones replace the oldest.
const WAITING: usize = 2;

/// Longest part of a line of the program's standard error in a message, in bytes.
const LONGEST_LINE: u64 = 500;

/// Most lines of its standard error that are logged in a second.
const LINES: u32 = 10;

/// A program: `[camera]` of the configuration with `kind = "command"`.
///
/// ```
/// use weakrest::camera::{CommandSettings, PixelFormat, Source};
///
/// let camera = Source::Command(CommandSettings {
///     command: ["sh", "-c", "cat frame.gray; sleep 1"].map(str::to_owned).to_vec(),
///     format: PixelFormat::Grey,
///     width: 640,
///     height: 480,
///     rate: Some(1.0),
///     color: None,
///     header: false,
/// });
/// # assert!(matches!(camera, Source::Command(_)));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Pixel format of the frames. Lines follow each other without gaps. Not mjpeg: its frames have no fixed size.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second, if they are known: limits how far a trigger and its frame may be apart.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Color of the frames, gray or rgb. Default: gray for the format grey, rgb for all others.
    #[serde(default)]
    pub color: Option<Color>,
    /// Whether 16 bytes precede each frame: its capture time on the monotonic clock in nanoseconds, and its number, each 64
    /// bits, little-endian. Without it, a frame's time is that of its first byte's arrival.
    #[serde(default)]
    pub header: bool,
}

impl CommandSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let unfit = |part: &String| part.contains('\0');
        if self.command.first().is_none_or(String::is_empty) || self.command.iter().any(unfit) {
            let what = "names no program; set it and its arguments, such as [\"gst-launch-1.0\", \"-q\", …]";
            return Err(Error::setting("camera.command", what));
        }
        let most = Frame::MAX_PIXELS;
        range("camera.width", u64::from(self.width), 1..=most)?;
        range("camera.height", u64::from(self.height), 1..=most / u64::from(self.width))?;
        if self.line() == 0 {
            let what = "mjpeg has frames of no fixed size; let the program decode it";
            return Err(Error::setting("camera.format", what));
        }
        self.format.check_color(self.color)?;
        match self.rate {
            Some(rate) => super::check_rate(rate),
            None => Ok(()),
        }
    }

    /// Bytes of a line of the first plane. 0 for compressed formats.
    fn line(&self) -> usize {
        self.format.lines(self.width as usize).first().copied().unwrap_or(0)
    }
}

/// Opens a program as a camera.
#[derive(Debug, Clone)]
pub struct CommandOpener {
    /// The program.
    pub settings: CommandSettings,
}

impl OpenCamera for CommandOpener {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        Ok(Box::new(CommandCamera::open(&self.settings)?))
    }

    fn describe(&self) -> String {
        format!("the program {}", self.settings.command.first().map_or("", String::as_str))
    }
}

/// A frame as the program wrote it.
#[derive(Default)]
struct Shot {
    bytes: Vec<u8>,
    at: Option<Instant>,
    lost: u64,
}

/// The running program.
struct Program {
    /// Its number belongs to it only until it is waited for.
    group: Option<Pid>,
    last_words: String,
    /// Whether nobody takes its frames any more.
    closed: bool,
}

impl Program {
    fn kill(&mut self) {
        if let Some(group) = self.group {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn locked(program: &Mutex<Program>) -> MutexGuard<'_, Program> {
    // No code panics while it holds the lock.
    program.lock().unwrap_or_else(PoisonError::into_inner)
}

struct CommandCamera {
    program: Arc<Mutex<Program>>,
    frames: Receiver<Result<Shot>>,
    spare: Sender<Vec<u8>>,
    shot: Shot,
    format: PixelFormat,
    color: Color,
    layout: Layout,
    timing: Timing,
}

impl CommandCamera {
    fn open(settings: &CommandSettings) -> Result<Self> {
        let Some((name, arguments)) = settings.command.split_first() else {
            return Err(Error::new(ErrorKind::Camera, "names no program").with_key("camera.command"));
        };
        let started = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = started.map_err(|e| {
            Error::new(ErrorKind::Camera, format!("the program {name} does not start"))
                .with_source(e)
                .with_key("camera.command")
        })?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let program = Arc::new(Mutex::new(Program { group, last_words: String::new(), closed: false }));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, frames) = bounded(WAITING);
        let (spare, buffers) = bounded(WAITING + 1);
        let (width, height) = (settings.width as usize, settings.height as usize);
        let layout = settings.format.in_one_buffer(width, height, settings.line());
        // It ends with its sender, which tells that all was heard.
        let (talking, silent) = bounded::<()>(0);
        if let Some(stderr) = stderr {
            let (program, name) = (Arc::clone(&program), name.clone());
            std::thread::spawn(move || {
                listen(stderr, &name, &program);
                drop(talking);
            });
        }
        let reader = Reader {
            name: name.clone(),
            header: settings.header,
            size: layout.bytes,
            frames: sender,
            oldest: frames.clone(),
            buffers,
            silent,
            number: None,
        };
        {
            let program = Arc::clone(&program);
            std::thread::spawn(move || reader.run(child, stdout, &program));
        }
        let color = settings.format.given(settings.color);
        log::info!(
            "the program {name} gives {}×{} pixels of {} as {color} frames",
            settings.width,
            settings.height,
            settings.format
        );
        let period = settings.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Ok(CommandCamera {
            program,
            frames,
            spare,
            shot: Shot::default(),
            format: settings.format,
            color,
            layout,
            timing: Timing { period, exposure: None },
        })
    }
}

impl Drop for CommandCamera {
    fn drop(&mut self) {
        let mut program = locked(&self.program);
        program.closed = true;
        program.kill();
    }
}

impl Camera for CommandCamera {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        match self.frames.recv_timeout(timeout) {
            Ok(Ok(shot)) => {
                let old = std::mem::replace(&mut self.shot, shot);
                let _ = self.spare.try_send(old.bytes);
                Ok(Some(Captured { at: self.shot.at, lost: self.shot.lost, damaged: false }))
            }
            Ok(Err(e)) => Err(e),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::new(ErrorKind::Camera, "the program has ended"))
            }
        }
    }

    fn timing(&self) -> Timing {
        self.timing
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        self.format.decode(&self.shot.bytes, self.layout, Range::Limited, self.color, frame)
    }
}

/// Reads the program's frames until it ends.
struct Reader {
    name: String,
    header: bool,
    /// Bytes of a frame.
    size: usize,
    frames: Sender<Result<Shot>>,
    /// The same channel: a full one loses its oldest frame.
    oldest: Receiver<Result<Shot>>,
    buffers: Receiver<Vec<u8>>,
    /// Closed once the program's standard error is read to its end.
    silent: Receiver<()>,
    number: Option<u64>,
}

impl Reader {
    fn run(mut self, mut child: Child, stdout: Option<ChildStdout>, program: &Mutex<Program>) {
        let why = match stdout {
            Some(mut stdout) => loop {
                match self.read(&mut stdout) {
                    // A child that left the group can write on.
                    _ if locked(program).closed => break None,
                    Ok(shot) => self.pass(Ok(shot)),
                    Err(why) => break Some(why),
                }
            },
            None => Some(Why::Ended),
        };
        // A program that closed its output, or writes what no frame can be, may run on.
        locked(program).kill();
        locked(program).group = None;
        let status = child.wait();
        if let Some(why) = why {
            let _ = self.silent.recv_timeout(LAST_WORDS);
            let error = self.error(&why, status, &locked(program).last_words);
            self.pass(Err(error));
        }
    }

    /// Hands a frame over.
    fn pass(&mut self, mut shot: Result<Shot>) {
        while let Err(TrySendError::Full(back)) = self.frames.try_send(shot) {
            shot = back;
            if let (Ok(Ok(old)), Ok(next)) = (self.oldest.try_recv(), &mut shot) {
                next.lost += 1 + old.lost;
            }
        }
    }

    fn read(&mut self, from: &mut impl Read) -> std::result::Result<Shot, Why> {
        let mut bytes = self.buffers.try_recv().unwrap_or_default();
        bytes.resize(self.size, 0);
        let (at, lost) = if self.header {
            let mut header = [0; HEADER];
            fill(from, &mut header, 0)?;
            let (time, number) = header.split_at(HEADER / 2);
            let value = |half: &[u8]| half.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let (nanoseconds, number) = (value(time), value(number));
            let lost = self.missing(number)?;
            let at = at_monotonic(Duration::from_nanos(nanoseconds)).filter(|at| at.elapsed() < OLDEST);
            fill(from, &mut bytes, HEADER)?;
            (Some(at.ok_or(Why::Time(nanoseconds))?), lost)
        } else {
            let first = loop {
                match from.read(&mut bytes) {
                    Ok(0) => return Err(Why::Ended),
                    Ok(count) => break count,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Why::Unreadable(e)),
                }
            };
            let at = Instant::now();
            fill(from, &mut bytes[first..], first)?;
            (Some(at), 0)
        };
        Ok(Shot { bytes, at, lost })
    }

    /// Number of frames missing before this number.
    fn missing(&mut self, number: u64) -> std::result::Result<u64, Why> {
        let Some(last) = self.number.replace(number) else { return Ok(0) };
        number.checked_sub(last).and_then(|ahead| ahead.checked_sub(1)).ok_or(Why::Number(last, number))
    }

    fn error(&self, why: &Why, status: std::io::Result<ExitStatus>, last_words: &str) -> Error {
        let name = &self.name;
        let what = match why {
            Why::Ended => format!("the program {name} ended"),
            Why::Within(bytes) => {
                format!("the program {name} ended within a frame, {bytes} of {} bytes into it", self.size)
            }
            Why::Unreadable(e) => format!("the program {name} cannot be read: {e}"),
            Why::Time(stamp) => format!(
                "the program {name} gave a frame the time {stamp} ns, which is not within the last {} s of the \
                 monotonic clock; camera.width, camera.height, camera.format or the header may be wrong",
                OLDEST.as_secs()
            ),
            Why::Number(last, number) => format!(
                "the program {name} numbered a frame {number} after {last}; camera.width, camera.height, \
                 camera.format or the header may be wrong"
            ),
        };
        let status = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!(" (exit status {code})"),
                // Killed by this program, as a consequence.
                (None, Some(9)) | (None, None) => String::new(),
                (None, Some(signal)) => format!(" (signal {signal})"),
            },
            Err(_) => String::new(),
        };
        let said =
            if last_words.is_empty() { String::new() } else { format!("; it said last: {last_words}") };
        Error::new(ErrorKind::Camera, format!("{what}{status}{said}"))
    }
}

/// Time for the rest of the standard error of a program that has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Frames of an older capture time have a wrong header.
const OLDEST: Duration = Duration::from_secs(10);

/// The end of reading.
enum Why {
    Ended,
    /// After this many bytes of a frame.
    Within(usize),
    Unreadable(std::io::Error),
    Time(u64),
    Number(u64, u64),
}

/// Fills a buffer, `before` bytes into a frame.
fn fill(from: &mut impl Read, buffer: &mut [u8], before: usize) -> std::result::Result<(), Why> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if before + filled == 0 => return Err(Why::Ended),
            Ok(0) => return Err(Why::Within(before + filled)),
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Why::Unreadable(e)),
        }
    }
    Ok(())
}

/// Logs the program's standard error, and keeps its last line.
fn listen(stderr: ChildStderr, name: &str, program: &Mutex<Program>) {
    let mut lines = BufReader::new(stderr);
    let (mut second, mut count) = (Instant::now(), 0);
    let mut line = Vec::new();
    while let Ok(1..) = read_line(&mut lines, &mut line) {
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        if text.is_empty() {
            continue;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            (second, count) = (Instant::now(), 0);
        }
        count += 1;
        if count <= LINES {
            log::info!("{name}: {text}");
        }
        locked(program).last_words = text;
    }
}

/// Reads a line, or a part of a long one. Returns its number of bytes, 0 at the end.
fn read_line(from: &mut BufReader<ChildStderr>, line: &mut Vec<u8>) -> std::io::Result<usize> {
    use std::io::BufRead;
    line.clear();
    from.by_ref().take(LONGEST_LINE).read_until(b'\n', line)
}

#[cfg(test)]
mod tests;
