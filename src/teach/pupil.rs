//! The output that teaching gets its parts from.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::store::Answer;
use super::{Aid, Collecting, Inner, RECENT, RECENT_BYTES, Recent, Teacher};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Frame, exposure, sharpness};
use crate::inspector::Verdict;
use crate::output::Output;
use crate::record::{Record, Status};

/// Collects parts, and remembers the latest.
pub(crate) struct Pupil(pub Arc<Teacher>);

impl Output for Pupil {
    fn name(&self) -> &'static str {
        "teach"
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        let Some(frame) = record.frame() else { return Ok(()) };
        let teacher = &self.0;
        if teacher.is_looked_at() {
            let (brightness, clipped) = exposure(frame);
            let sharpness = sharpness(frame);
            let size = (frame.width(), frame.height());
            teacher.inner().aid = Aid { sharpness, brightness, clipped, size };
        }
        if record.has_inspection {
            self.remember(record, frame);
        }
        self.collect(record, frame)
    }

    fn tick(&mut self, _: SystemTime, _: &Status) -> Result<()> {
        // With a software trigger, parts come only when asked for.
        let teacher = &self.0;
        let timed = match *teacher.inner() {
            Inner { collecting: Collecting::Timed { seconds }, ref place, .. } if place.software_trigger => {
                Some(seconds)
            }
            _ => None,
        };
        if timed.is_some_and(|seconds| teacher.is_due(seconds)) {
            teacher.control()?.trigger()?;
        }
        Ok(())
    }
}

impl Pupil {
    fn remember(&self, record: &Record, frame: &Frame) {
        let Some(inspection) = record.inspection() else { return };
        let verdict = match record.verdict {
            Verdict::Pass => RECENT[0].0,
            Verdict::Reject => RECENT[1].0,
            Verdict::Fault(_) => return,
        };
        let looked_at = self.0.is_looked_at();
        {
            let mut inner = self.0.inner();
            inner.held &= looked_at;
            // The shadow's parts must be among them, too.
            if inner.held {
                return;
            }
        }
        let frame = Arc::new(frame.clone());
        let mut inner = self.0.inner();
        inner.next += 1;
        let recent = Recent {
            id: inner.next,
            part: record.part,
            triggered: record.triggered,
            verdict,
            score: Some(inspection.score).filter(|s| s.is_finite()),
            threshold: Some(inspection.threshold).filter(|t| t.is_finite()),
            frame,
            product: record.engine.product.clone(),
            answer: None,
        };
        inner.shadow.see(&recent);
        inner.recent.push_back(recent);
        for (verdict, most) in RECENT {
            while inner.recent.iter().filter(|recent| recent.verdict == verdict).count() > most {
                let oldest = inner.recent.iter().position(|recent| recent.verdict == verdict);
                oldest.map(|at| inner.recent.remove(at));
            }
        }
        let bytes = |recent: &Recent| recent.frame.pixels().len();
        while inner.recent.len() > 1 && inner.recent.iter().map(bytes).sum::<usize>() > RECENT_BYTES {
            inner.recent.pop_front();
        }
    }

    /// Keeps the frame as a good part's, if that is asked for.
    fn collect(&self, record: &Record, frame: &Frame) -> Result<()> {
        let teacher = &self.0;
        let collecting = teacher.inner().collecting;
        let wanted = match collecting {
            Collecting::Off => false,
            Collecting::Next { left } => left > 0,
            Collecting::Timed { seconds } => teacher.is_due(seconds),
        };
        if !wanted {
            return Ok(());
        }
        let product = teacher.chosen()?;
        let name = super::store::picture_name(record.triggered, record.part);
        let kept = teacher.check_size(&product, frame).and_then(|()| {
            match product.keep(Answer::Good, &name, frame)? {
                true => product.note("line", &format!("good part collected: {name}")),
                false => Ok(()),
            }
        });
        let mut inner = teacher.inner();
        inner.collected = Some(Instant::now());
        if let Collecting::Next { left } = &mut inner.collecting {
            *left -= 1;
            if *left == 0 {
                inner.collecting = Collecting::Off;
            }
        }
        if let Err(e) = &kept {
            // More of them would fail in the same way.
            (inner.collecting, inner.refused) = (Collecting::Off, Some(e.chain()));
        }
        kept
    }
}

impl Teacher {
    /// Whether the next picture may be taken.
    fn is_due(&self, seconds: f64) -> bool {
        let collected = self.inner().collected;
        collected.is_none_or(|at| at.elapsed() >= Duration::from_secs_f64(seconds))
    }

    /// All pictures of a product have one size.
    fn check_size(&self, product: &super::ProductFolder, frame: &Frame) -> Result<()> {
        let pictures = product.pictures(Answer::Good)?;
        let Some(first) = pictures.first() else { return Ok(()) };
        let (width, height, _) = Frame::header(product.picture(Answer::Good, first)?)?;
        if (width, height) == (frame.width(), frame.height()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Image,
            format!(
                "the camera gives {}×{} pixels, but the product's pictures have {width}×{height}; remove them, or set \
                 the camera as before",
                frame.width(),
                frame.height()
            ),
        ))
    }
}
