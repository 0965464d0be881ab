//! Work beside a running line.

use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process};

/// Work of this niceness gets a tenth of a processor that the line needs all of: so it ends there, too.
const NICE: i32 = 10;

/// Gives way to every other program, and ends with the one that started this one. What the system refuses is
/// only noted: the work itself is not in danger.
pub fn enter() {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        log::warn!("this program may outlive the one that started it: {e}");
    }
    if let Err(e) = setpriority_process(None, NICE) {
        log::warn!("cannot give way to other programs: {e}");
    }
    // If memory runs out, the line goes on.
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        log::warn!("cannot be the first program to end when memory runs out: {e}");
    }
}
