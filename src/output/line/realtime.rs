//! What lets the gate's driver run in time on a busy machine: a real-time priority, and memory that stays in memory.

use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::{Error, ErrorKind, Result};

/// The driver's priority among real-time threads: above all ordinary threads, below the kernel's interrupts (50), which
/// it waits for.
pub(crate) const PRIORITY: i32 = 20;

/// Gives the calling thread its priority. Threads and programs that it starts do not get it.
///
/// # Errors
/// [`ErrorKind::Device`] when the process has no right to it.
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
        "no real-time priority (SCHED_FIFO): on a busy machine pulses are late or missed, which is told; systemd gives it by \
         LimitRTPRIO={PRIORITY} and RestrictRealtime=no, a shell by `ulimit -r {PRIORITY}`"
    );
    Err(Error::new(ErrorKind::Device, text).with_source(std::io::Error::last_os_error()))
}

/// Keeps what the process uses in memory, from now on. A page is locked when it is first used: locking all at once would
/// also load what nobody uses of networks, libraries and stacks, gigabytes with a GPU.
///
/// # Errors
/// [`ErrorKind::Device`] when the process has no right to it.
pub fn lock_memory() -> Result<()> {
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // With a limit, memory that is asked for later would be refused beyond it.
    let may = if privileged || getrlimit(Resource::Memlock).current.is_none() {
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    } else {
        Err(rustix::io::Errno::PERM)
    };
    may.map_err(|e| {
        let text = "memory is not locked: where it becomes scarce, pulses are late or missed, which is told; systemd lets it be \
                    locked by LimitMEMLOCK=infinity, a shell by `ulimit -l unlimited`";
        Error::new(ErrorKind::Device, text).with_source(e)
    })
}

/// Readies the calling thread to be the gate's driver, as far as the process may. What it may not is logged once.
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

/// What of it this process has no right to. Changes nothing.
pub fn lacks() -> Vec<Error> {
    // A thread of its own keeps the priority from the caller.
    let priority = std::thread::spawn(prioritize).join().unwrap_or(Ok(()));
    let memory = lock_memory();
    let _ = munlockall();
    [priority, memory].into_iter().filter_map(Result::err).collect()
}

/// Uses as much of the stack as the driver may need, so that it is there, and locked, beforehand.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 128 << 10];
    std::hint::black_box(&mut stack);
}
