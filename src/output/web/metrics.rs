//! Counters and times in the text format that Prometheus reads, version 0.0.4.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::record::{Histogram, Snapshot, Stage, State, Status};

/// The media type of [`text`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(super) fn text(status: &Status, uptime: Duration) -> String {
    let mut out = String::with_capacity(8192);
    // Writing to a `String` cannot fail.
    let _ = write(&mut out, status, &status.snapshot(), uptime);
    out
}

fn write(out: &mut String, status: &Status, now: &Snapshot, uptime: Duration) -> fmt::Result {
    head(out, "weakrest_info", "gauge", "Version, product, package and provider as labels; always 1.")?;
    let engine = &now.engine;
    writeln!(
        out,
        r#"weakrest_info{{version="{}",product="{}",package="{}",provider="{}"}} 1"#,
        env!("CARGO_PKG_VERSION"),
        Label(&engine.product),
        Label(&engine.package),
        Label(&engine.provider)
    )?;
    head(out, "weakrest_uptime_seconds", "gauge", "Time since the start of the web page.")?;
    writeln!(out, "weakrest_uptime_seconds {}", uptime.as_secs_f64())?;
    head(out, "weakrest_threshold", "gauge", "Scores above it are rejected.")?;
    writeln!(out, "weakrest_threshold {}", Number(engine.threshold))?;
    let help = "Share of recent frames without an inspection, if every frame is a part.";
    head(out, "weakrest_unjudged_share", "gauge", help)?;
    writeln!(out, "weakrest_unjudged_share {}", now.unjudged_share)?;
    head(out, "weakrest_state", "gauge", "1 for the current state, 0 for the others.")?;
    for state in [State::Preoperational, State::Halted, State::Error, State::Operational] {
        writeln!(out, r#"weakrest_state{{state="{state}"}} {}"#, u8::from(state == now.state))?;
    }
    head(out, "weakrest_problem", "gauge", "1 for each component with a problem.")?;
    for (component, problem) in &now.problems {
        let severity = match problem.severity {
            crate::record::Severity::Error => "error",
            crate::record::Severity::Warning => "warning",
        };
        let component = Label(component);
        writeln!(out, r#"weakrest_problem{{component="{component}",severity="{severity}"}} 1"#)?;
    }

    let help =
        "Change of light, focus, noise and good scores since the first parts of the package, as a share.";
    head(out, "weakrest_drift", "gauge", help)?;
    for drift in &now.drift {
        writeln!(out, r#"weakrest_drift{{quantity="{}"}} {}"#, drift.quantity.name(), drift.change())?;
    }

    for (name, help, value) in [
        ("parts", "Parts with a verdict.", now.parts),
        ("passes", "Parts passed.", now.passes),
        ("rejects", "Parts rejected.", now.rejects),
        (
            "dropped_frames",
            "Frames of a free-running camera dropped in favor of newer ones.",
            now.dropped_frames,
        ),
        ("lost_frames", "Frames missing in the camera's own numbering.", now.lost_frames),
        ("camera_losses", "Losses of the camera.", now.camera_losses),
        ("late_inspections", "Inspections finished after the deadline of their part.", now.late_inspections),
        ("missed_pulses", "Rejects whose pulse was late, short or missing.", now.missed_pulses),
        ("late_pulses", "Other pulses that started or ended late.", now.late_pulses),
        ("swaps", "Package changes while running.", now.swaps),
    ] {
        let name = format!("weakrest_{name}_total");
        head(out, &name, "counter", help)?;
        writeln!(out, "{name} {value}")?;
    }
    for (name, help, label, values) in [
        ("faults", "Parts without a judgment, by cause.", "kind", &now.faults),
        ("output_dropped", "Parts dropped by a slow output.", "output", &now.outputs_dropped),
        ("output_failed", "Parts that an output failed to publish.", "output", &now.outputs_failed),
    ] {
        let name = format!("weakrest_{name}_total");
        head(out, &name, "counter", help)?;
        for (key, value) in values {
            writeln!(out, r#"{name}{{{label}="{}"}} {value}"#, Label(key))?;
        }
    }

    let help = "Time per stage; latency is from trigger to verdict.";
    head(out, "weakrest_stage_seconds", "histogram", help)?;
    for stage in Stage::ALL {
        let times = status.times(stage);
        let sum = times.sum();
        let mut counted = 0;
        let bounds = Histogram::BOUNDS.iter().map(|us| format!("{}", *us as f64 / 1e6));
        for (bound, count) in bounds.chain(["+Inf".into()]).zip(times.counts()) {
            counted += count;
            writeln!(
                out,
                r#"weakrest_stage_seconds_bucket{{stage="{}",le="{bound}"}} {counted}"#,
                stage.name()
            )?;
        }
        writeln!(out, r#"weakrest_stage_seconds_sum{{stage="{}"}} {}"#, stage.name(), sum.as_secs_f64())?;
        writeln!(out, r#"weakrest_stage_seconds_count{{stage="{}"}} {counted}"#, stage.name())?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// A label's value, escaped.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str(r"\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number; infinity as the format spells it.
struct Number(f32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f32::INFINITY => f.write_str("+Inf"),
            f32::NEG_INFINITY => f.write_str("-Inf"),
            number => write!(f, "{number}"),
        }
    }
}
