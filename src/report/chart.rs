//! The distribution of scores, as inline SVG bars over one common axis.
//!
//! Labels and the axis are HTML positioned in percent: text inside a stretched SVG would be unreadable on a
//! phone.

use std::io::{self, Write};

/// One row of bars.
pub(super) struct Lane<'a> {
    pub label: &'a str,
    /// CSS class for the color of the bars. `None` colors them by their side of the threshold.
    pub class: Option<&'a str>,
    /// Scores as multiples of the threshold.
    pub ratios: Vec<f32>,
}

/// About as many bars as a phone can show.
const BINS: f64 = 56.0;
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// A single picture stays visible beside hundreds.
const LOWEST_BAR: f64 = 6.0;

/// Writes the chart, or nothing when there are no finite scores.
pub(super) fn write(out: &mut impl Write, lanes: &[Lane]) -> io::Result<()> {
    let Some(axis) = Axis::over(lanes.iter().flat_map(|l| l.ratios.iter().copied())) else {
        return Ok(());
    };
    let lanes: Vec<&Lane> = lanes.iter().filter(|l| l.ratios.iter().any(|r| axis.holds(*r))).collect();
    writeln!(out, r#"<figure class="chart">"#)?;
    let scale = if axis.log { ", logarithmic" } else { "" };
    let rows = if lanes.len() > 1 { ", each row to its own scale" } else { "" };
    writeln!(
        out,
        "<figcaption><h2>Scores</h2><p>Score as a multiple of the threshold{scale}. \
         Bar heights count pictures{rows}.</p></figcaption>"
    )?;
    writeln!(out, r#"<div class="plot">"#)?;
    let threshold = 100.0 * axis.position(1.0);
    let side = if threshold > 60.0 { " left" } else { "" };
    writeln!(out, r#"<div class="mark{side}" style="left:{threshold:.2}%"><span>threshold</span></div>"#)?;
    for lane in lanes {
        lane_bars(out, lane, &axis)?;
    }
    writeln!(out, r#"<div class="axis">"#)?;
    for tick in axis.ticks() {
        let left = 100.0 * axis.position(tick);
        writeln!(out, r#"<span style="left:{left:.2}%">{}×</span>"#, tick_label(tick))?;
    }
    writeln!(out, "</div>\n</div>\n</figure>")
}

fn lane_bars(out: &mut impl Write, lane: &Lane, axis: &Axis) -> io::Result<()> {
    let mut counts = vec![0usize; axis.bins];
    for &ratio in lane.ratios.iter().filter(|r| axis.holds(**r)) {
        counts[axis.bin(f64::from(ratio))] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    writeln!(out, r#"<p class="lane">{} <b>{}</b></p>"#, lane.label, lane.ratios.len())?;
    writeln!(
        out,
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Scores: {}">"#,
        lane.label
    )?;
    let step = WIDTH / axis.bins as f64;
    for (i, &count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
        let class = lane.class.unwrap_or(if i < axis.below { "pass" } else { "reject" });
        let height = LOWEST_BAR + (HEIGHT - LOWEST_BAR) * count as f64 / highest;
        let (from, to) = (axis.edge(i), axis.edge(i + 1));
        let noun = if count == 1 { "picture" } else { "pictures" };
        writeln!(
            out,
            r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"><title>{count} {noun}, {from:.2}× to {to:.2}×</title></rect>"#,
            i as f64 * step + step * 0.1,
            HEIGHT - height,
            step * 0.8,
        )?;
    }
    writeln!(out, "</svg>")
}

/// The common horizontal axis. The threshold is a bin edge: no bar holds both passes and rejects.
struct Axis {
    log: bool,
    start: f64,
    bin_width: f64,
    bins: usize,
    /// Bins at or below the threshold.
    below: usize,
}

impl Axis {
    fn over(ratios: impl Iterator<Item = f32>) -> Option<Axis> {
        let finite = ratios.filter(|r| r.is_finite()).map(f64::from);
        let (lowest, highest) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), r| (lo.min(r), hi.max(r)));
        if lowest > highest {
            return None;
        }
        let (lowest, highest) = (lowest.min(0.8), highest.max(1.2));
        let log = lowest > 0.0 && highest / lowest > 20.0;
        let (low, high, one) = if log { (lowest.ln(), highest.ln(), 0.0) } else { (lowest, highest, 1.0) };
        let bin_width = (high - low) / BINS;
        let below = ((one - low) / bin_width).ceil().max(1.0) as usize;
        let above = ((high - one) / bin_width).ceil().max(1.0) as usize;
        Some(Axis { log, start: one - below as f64 * bin_width, bin_width, bins: below + above, below })
    }

    fn holds(&self, ratio: f32) -> bool {
        ratio.is_finite() && (!self.log || ratio > 0.0)
    }

    fn coordinate(&self, ratio: f64) -> f64 {
        let value = if self.log { ratio.ln() } else { ratio };
        (value - self.start) / self.bin_width
    }

    /// 0 at the left end, 1 at the right.
    fn position(&self, ratio: f64) -> f64 {
        self.coordinate(ratio) / self.bins as f64
    }

    /// A score equal to the threshold is a pass: bins include their upper edge.
    fn bin(&self, ratio: f64) -> usize {
        // Rounding must not move a score across the threshold.
        let (first, last) = if ratio <= 1.0 { (0, self.below - 1) } else { (self.below, self.bins - 1) };
        ((self.coordinate(ratio).ceil() - 1.0).max(0.0) as usize).clamp(first, last)
    }

    fn edge(&self, bin: usize) -> f64 {
        let value = self.start + bin as f64 * self.bin_width;
        if self.log { value.exp() } else { value }
    }

    /// Round numbers, at most about seven.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.edge(0), self.edge(self.bins));
        let inside = |t: &f64| *t >= low && *t <= high;
        if self.log {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let all = |mantissas: &[f64]| -> Vec<f64> {
                decades
                    .clone()
                    .flat_map(|d| mantissas.iter().map(move |m| m * 10f64.powi(d)))
                    .filter(inside)
                    .collect()
            };
            let fine = all(&[1.0, 2.0, 5.0]);
            let coarse = if fine.len() <= 7 { fine } else { all(&[1.0]) };
            let every = coarse.len().div_ceil(7);
            return coarse.into_iter().step_by(every.max(1)).collect();
        }
        let span = high - low;
        let magnitude = 10f64.powf((span / 6.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|s| span / s <= 6.0);
        let step = step.unwrap_or(span);
        let first = (low / step).ceil() as i64;
        (first..=(high / step).floor() as i64).map(|i| i as f64 * step).collect()
    }
}

fn tick_label(tick: f64) -> String {
    let text = format!("{tick:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(ratios: &[f32]) -> Axis {
        Axis::over(ratios.iter().copied()).unwrap()
    }

    #[test]
    fn no_bar_holds_both_passes_and_rejects() {
        for ratios in
            [vec![0.2, 1.0, 1.000001, 3.0], vec![0.01, 1.0, 1.000001, 40.0], vec![1.0], vec![5.0, 9.0]]
        {
            let a = axis(&ratios);
            for &r in &ratios {
                let bin = a.bin(f64::from(r));
                assert!(bin < a.bins);
                assert_eq!(bin < a.below, r <= 1.0, "{r} of {ratios:?}");
            }
            assert!((a.edge(a.below) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn ticks_are_round_few_and_inside() {
        for ratios in [vec![0.2, 3.0], vec![0.01, 40.0], vec![0.97, 1.02], vec![0.5, 12.0], vec![1e-6, 1e6]] {
            let a = axis(&ratios);
            let ticks = a.ticks();
            assert!((2..=8).contains(&ticks.len()), "{ratios:?}: {ticks:?}");
            assert!(ticks.iter().all(|t| (-1e-9..=1.0 + 1e-9).contains(&a.position(*t))));
        }
        assert_eq!(tick_label(0.5), "0.5");
        assert_eq!(tick_label(20.0), "20");
        assert_eq!(tick_label(0.0), "0");
    }

    #[test]
    fn scores_that_are_no_numbers_are_left_out() {
        let mut out = Vec::new();
        let lane = |ratios| Lane { label: "all", class: None, ratios };
        write(&mut out, &[lane(vec![f32::NAN, f32::INFINITY])]).unwrap();
        assert!(out.is_empty());
        write(&mut out, &[lane(vec![f32::NAN, 0.5, 2.0])]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(!text.contains("NaN"));
    }
}
