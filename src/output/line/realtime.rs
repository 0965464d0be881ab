//! Real-time priority and locked memory, so that the gate's driver runs in time on a busy machine.

use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::{Error, ErrorKind, Result};

/// The driver's real-time priority: above all ordinary threads, below the kernel's interrupt threads (50),
/// which it waits for.
pub(crate) const PRIORITY: i32 = 20;

/// Gives the calling thread this priority. Threads and programs that it starts do not inherit it.
///
/// # Errors
/// [`ErrorKind::Device`] if the process lacks the right.
pub(crate) fn prioritize() -> Result<()> {
    // SAFETY: plain numbers, of which all zeros are valid.
    let mut priority: libc::sched_param = unsafe { std::mem::zeroed() };
    priority.sched_priority = PRIORITY;
    // SAFETY: 0 is the calling thread, and the call only reads the parameter.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const priority)
    };
    if set == 0 {
        return Ok(());
    }
    let text = format!(
        "no real-time priority (SCHED_FIFO): on a busy machine pulses can be late or missed, which raises an alarm; set \
        LimitRTPRIO={PRIORITY} and RestrictRealtime=no in the systemd unit, or `ulimit -r {PRIORITY}` in a shell"
    );
    Err(Error::new(ErrorKind::Device, text).with_source(std::io::Error::last_os_error()))
}

/// Locks the memory of the process. A page is locked at its first use: locking everything at once would also
/// load unused parts of networks, libraries and stacks, gigabytes with a GPU.
///
/// # Errors
/// [`ErrorKind::Device`] if the process lacks the right.
pub fn lock_memory() -> Result<()> {
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // With a limit, later allocations beyond it would fail.
    let may = if privileged || getrlimit(Resource::Memlock).current.is_none() {
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    } else {
        Err(rustix::io::Errno::PERM)
    };
    may.map_err(|e| {
        let text = "memory is not locked: if it becomes scarce, pulses can be late or missed, which raises an alarm; set \
        LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited` in a shell";
        Error::new(ErrorKind::Device, text).with_source(e)
    })
}

/// Prepares the calling thread for the gate's driver, as far as the process has the rights. Missing rights
/// are logged once.
pub(crate) fn ready() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let results = [prioritize(), lock_memory()];
    touch_stack();
    ONCE.call_once(|| {
        for error in results.into_iter().filter_map(Result::err) {
            log::warn!("gate: {}", error.chain());
        }
    });
}

/// Returns the rights that the process lacks. Changes nothing.
pub fn lacks() -> Vec<Error> {
    // In its own thread, so that the caller does not get the priority.
    let priority = std::thread::spawn(prioritize).join().unwrap_or(Ok(()));
    let memory = lock_memory();
    let _ = munlockall();
    [priority, memory].into_iter().filter_map(Result::err).collect()
}

/// Touches the stack that the driver can need, so that it is locked beforehand.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 128 << 10];
    std::hint::black_box(&mut stack);
}
