//! Forecast: which synthetic defects a new package rejects.

use std::path::PathBuf;

use posfar::random::SplitMix64;

use super::calibrate::{Stages, spread};
use super::{Progress, Step};
use crate::anomaly::AnomalyMap;
use crate::error::Result;
use crate::imaging::{Defect, DefectKind, Frame};
use crate::inspector::{Features, FrameResiduals};
use crate::package::{ForecastInfo, Manifest, Pictures};

/// Longest side of the defects, in pixels of the scaled picture.
const SIZES: [u32; 4] = [4, 8, 16, 32];

/// Good pictures that each kind and size is painted on.
const PAINTED: usize = 10;

/// Margin without a defect's center, as a share of the picture's sides: less of a defect would be seen there.
const MARGIN: f32 = 0.1;

/// Paints defects on good pictures, each without its part in the bank, and counts those that score above the threshold.
/// The result is `None` if `progress` returned `false`.
///
/// # Errors
/// Those of reading and judging the pictures.
pub(super) fn forecast(
    stages: &mut Stages,
    pictures: &[PathBuf],
    enrolled: &Pictures,
    manifest: &Manifest,
    threshold: f32,
    progress: Progress,
) -> Result<Option<Vec<ForecastInfo>>> {
    let geometry = manifest.geometry();
    let numbers = enrolled.numbers();
    let mut found: Vec<ForecastInfo> = DefectKind::ALL
        .iter()
        .flat_map(|&kind| SIZES.map(|size| ForecastInfo { kind, size, rejected: 0, painted: 0 }))
        .collect();
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let mut map = AnomalyMap::default();
    let mut random = SplitMix64::new(0);
    let total = pictures.len().min(PAINTED);
    for (done, picture) in spread(pictures.len(), PAINTED).enumerate() {
        let path = &pictures[picture];
        let frame = Frame::open(path)?;
        let number = numbers.get(&frame.digest()).copied();
        let scaled = geometry.scale(&frame)?;
        for info in &mut found {
            let mut place = |side: u32| side as f32 * (MARGIN + (1.0 - 2.0 * MARGIN) * random.unit());
            let center = (place(scaled.width()), place(scaled.height()));
            let defect = Defect { kind: info.kind, size: info.size as f32, center, angle: random.unit() };
            let within = |e: crate::Error| e.within(path.display());
            stages.features.run(&defect.paint(&scaled)?, &mut features).map_err(within)?;
            stages.residuals.run_without(&features, enrolled.of_same_part(number), 1, &mut residuals)?;
            info.painted += 1;
            info.rejected += usize::from(stages.classify.score(&residuals, &mut map)? > threshold);
        }
        if !progress(Step::Forecast, done + 1, total) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
