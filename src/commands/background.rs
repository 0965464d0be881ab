//! Work beside a running line.

use rustix::process::{Signal, set_parent_process_death_signal};

/// Gives way to every other program, and ends with the one that started this one. What the system refuses is
/// only noted: the work itself is not in danger.
pub fn enter() {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        log::warn!("this program may outlive the one that started it: {e}");
    }
    // SAFETY: a structure of numbers, for which zero is valid; the call reads it and keeps no pointer.
    let refused = unsafe {
        let priority: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority)
    };
    if refused != 0 {
        log::warn!("cannot give way to other programs: {}", std::io::Error::last_os_error());
    }
    // If memory runs out, the line goes on.
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        log::warn!("cannot be the first program to end when memory runs out: {e}");
    }
}
