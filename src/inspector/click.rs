//! ADClick: clicks and words → mask of a defect (arXiv 2407.03130).

use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut4, s};

use super::data::{FrameResiduals, Options, join};
use super::inspection::Inspection;
use crate::anomaly::{AnomalyMap, MapParameters, MapScratch, map_from_layers};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Placement;
use crate::onnx::{Network, Runtime, TextEncoder, check_finite};
use crate::package::{ClickFile, Clicks, NetworkInfo, Package, Prompts};

/// No smoothing, which would move the mask's edge.
const SHARP: MapParameters = MapParameters { sigma: 0.0, window: 1 };

/// A click, in pixels of the frame from its top left corner.
///
/// ```
/// use weakrest::inspector::Click;
///
/// let defect = Click { x: 120.0, y: 80.0, positive: true };
/// # assert!(defect.positive);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Click {
    /// 0 to the frame's width.
    pub x: f32,
    /// 0 to the frame's height.
    pub y: f32,
    /// Whether the mask includes this place, or excludes it.
    pub positive: bool,
}

/// The data of a frame that clicks need: see [`super::Inspector::prepare`].
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Residuals and picture.
    pub(crate) residuals: FrameResiduals,
    /// Anomaly map, score and verdict.
    pub inspection: Inspection,
}

/// The network for clicks, loaded and ready. `examples/mask_from_clicks.rs` shows its use.
pub struct ClickSegmenter {
    network: Network,
    info: NetworkInfo<Clicks>,
    units: Vec<f32>,
    prompts: Prompts,
    encoder: Option<TextEncoder>,
    scratch: MapScratch,
}

impl ClickSegmenter {
    /// Loads a package's network, or the built-in one for packages that have none and a built-in backbone.
    /// `None` when neither is there.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] without a usable ONNX Runtime, [`ErrorKind::Model`] when the network is not one
    /// that can run.
    pub fn load(package: &Package, options: &Options) -> Result<Option<Self>> {
        let (info, onnx, prompts) = match (&package.manifest.adclick, &package.adclick) {
            (Some(info), Some((onnx, prompts))) => (info.clone(), onnx.clone(), prompts.clone()),
            _ => {
                let backbone = crate::files::sha256(&package.backbone);
                let fits = |file: &ClickFile| {
                    file.network.info.check_backbone(&backbone, &package.manifest.backbone.kind).is_ok()
                };
                let Some(ClickFile { network, prompts }) = ClickFile::built_in()?.into_iter().find(fits)
                else {
                    return Ok(None);
                };
                (network.info, network.onnx, prompts)
            }
        };
        let runtime = Runtime::load(options.onnxruntime.as_deref())?;
        let network =
            Network::adclick(runtime, &onnx, &options.execution, info.kind.channels, info.kind.prompt)
                .map_err(|e| e.within(&info.name))?;
        let units = package.manifest.scales.iter().map(|scale| scale.residual_scale).collect();
        let scratch = MapScratch::default();
        Ok(Some(ClickSegmenter { network, info, units, prompts, encoder: None, scratch }))
    }

    /// The same network with an encoder for words that it was not trained with.
    pub(crate) fn with_encoder(self, encoder: Option<TextEncoder>) -> Self {
        ClickSegmenter { encoder, ..self }
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// The prompts that it was trained with.
    pub(crate) fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Whether it reads words other than its prompts.
    pub(crate) fn takes_any_words(&self) -> bool {
        self.encoder.is_some()
    }

    /// The vector of a text or of a kind of defect. `None` if it is not a prompt and there is no encoder.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if the text encoder fails.
    pub fn prompt(&mut self, text: &str) -> Result<Option<Vec<f32>>> {
        match (self.prompts.find(text), &mut self.encoder) {
            (Some(vector), _) => Ok(Some(vector.to_vec())),
            (None, Some(encoder)) => encoder.encode(text).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The probability that each pixel of the frame is defective, 0 to 1, `[height, width]`.
    ///
    /// `previous` is the mask before these clicks, of the same shape; values above 0.5 are inside. `prompt`
    /// is a prompt's vector.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`] for a click outside the frame, or a mask or vector of another size.
    /// - [`ErrorKind::Model`] if the network fails.
    /// - [`ErrorKind::NotFinite`] if its output has NaN.
    pub fn segment(
        &mut self,
        prepared: &Prepared,
        clicks: &[Click],
        previous: Option<ArrayView2<f32>>,
        prompt: Option<&[f32]>,
    ) -> Result<Array2<f32>> {
        let FrameResiduals { scales, placement, picture, .. } = &prepared.residuals;
        let Clicks { channels, cell, radius, prompt: length, .. } = self.info.kind;
        let cells = placement.refined(cell);
        let (rows, cols) = cells.grid;
        let mut guidance = Array4::zeros((1, 3, rows, cols));
        for click in clicks {
            draw_disk(click, radius, &cells, &mut guidance)?;
        }
        if let Some(mask) = previous {
            draw_mask(mask, &cells, &mut guidance)?;
        }
        let mut words = Array4::zeros((1, 1, 1, length));
        if let Some(vector) = prompt {
            if vector.len() != length {
                let text = format!("a prompt has {length} numbers, not {}", vector.len());
                return Err(Error::new(ErrorKind::Usage, text));
            }
            words.iter_mut().zip(vector).for_each(|(to, from)| *to = *from);
        }
        let grid = placement.grid;
        let sizes =
            [[1, grid.0, grid.1, channels], picture.dim().into(), guidance.dim().into(), words.dim().into()];
        let fill = |[residuals, mut seen, mut clicked, mut prompt]: [ArrayViewMut4<f32>; 4]| {
            seen.assign(picture);
            clicked.assign(&guidance);
            prompt.assign(&words);
            join(scales, &self.units, 0, (0, 0), grid, channels, residuals)
        };
        let likely = self.network.run_in_place(sizes, fill, |logits| {
            if logits.dim() != (1, rows, cols, 1) {
                let text =
                    format!("the network's output is {:?} instead of {:?}", logits.dim(), (1, rows, cols, 1));
                return Err(Error::new(ErrorKind::Model, text));
            }
            Ok(logits.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect::<Vec<f32>>())
        })?;
        check_finite("the network's output", &likely)?;
        let mut map = AnomalyMap::default();
        map_from_layers([(&*likely, 1.0)].into_iter(), None, &cells, &SHARP, &mut self.scratch, &mut map);
        let (width, height) = (cells.frame.0 as usize, cells.frame.1 as usize);
        Array2::from_shape_vec((height, width), map.resized(width, height).values)
            .map_err(|e| Error::new(ErrorKind::Model, "the mask has another shape").with_source(e))
    }
}

/// Marks the cells that a click covers.
fn draw_disk(click: &Click, radius: f32, cells: &Placement, guidance: &mut Array4<f32>) -> Result<()> {
    let (width, height) = (cells.frame.0 as f32, cells.frame.1 as f32);
    if !((0.0..=width).contains(&click.x) && (0.0..=height).contains(&click.y)) {
        let text =
            format!("the click at {},{} is outside the picture of {width}×{height} pixels", click.x, click.y);
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let (x, y) = (click.x * cells.content.0 as f32 / width, click.y * cells.content.1 as f32 / height);
    let kind = usize::from(!click.positive);
    let center = |cell: usize| cells.stride as f32 * (cell as f32 + 0.5);
    for ((row, col), value) in guidance.slice_mut(s![0, kind, .., ..]).indexed_iter_mut() {
        if (center(col) - x).powi(2) + (center(row) - y).powi(2) <= radius * radius {
            *value = 1.0;
        }
    }
    Ok(())
}

/// Marks the cells with more than half their pixels in a mask.
fn draw_mask(mask: ArrayView2<f32>, cells: &Placement, guidance: &mut Array4<f32>) -> Result<()> {
    let (width, height) = (cells.frame.0 as usize, cells.frame.1 as usize);
    if mask.dim() != (height, width) {
        let text = format!("the mask has {:?} pixels, but the picture has {width}×{height}", mask.dim());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    // The pixels of the frame in a cell, at least one.
    let span = |cell: usize, content: u32, frame: usize| {
        let at = |cell: usize| {
            (cell as f64 * f64::from(cells.stride) / f64::from(content) * frame as f64).round() as usize
        };
        let start = at(cell).min(frame.saturating_sub(1));
        start..at(cell + 1).clamp(start + 1, frame.max(1))
    };
    let (wide, high) =
        (cells.content.0.div_ceil(cells.stride) as usize, cells.content.1.div_ceil(cells.stride) as usize);
    for row in 0..high.min(guidance.dim().2) {
        let rows = span(row, cells.content.1, height);
        for col in 0..wide.min(guidance.dim().3) {
            let part = mask.slice(s![rows.clone(), span(col, cells.content.0, width)]);
            let inside = part.iter().filter(|inside| **inside > 0.5).count();
            guidance[(0, 2, row, col)] = f32::from(2 * inside > part.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RADIUS: f32 = 5.0;

    fn cells(frame: (u32, u32), content: (u32, u32), grid: (usize, usize)) -> Placement {
        Placement { frame, content, canvas: content, grid, stride: 2 }
    }

    #[test]
    fn a_click_covers_cells_whose_center_is_near() {
        // A frame of twice the scaled size.
        let cells = cells((64, 64), (32, 32), (16, 16));
        let mut guidance = Array4::zeros((1, 3, 16, 16));
        draw_disk(&Click { x: 32.0, y: 32.0, positive: true }, RADIUS, &cells, &mut guidance).unwrap();
        draw_disk(&Click { x: 0.0, y: 64.0, positive: false }, RADIUS, &cells, &mut guidance).unwrap();
        let counted = |kind: usize| guidance.slice(s![0, kind, .., ..]).sum();
        // Cells' centers lie 1, 3, 5 … pixels from the click in both directions.
        assert_eq!(counted(0), 16.0);
        assert_eq!(counted(1), 4.0);
        assert_eq!(guidance[(0, 0, 7, 7)], 1.0);
        assert_eq!(guidance[(0, 1, 15, 0)], 1.0);
        for (x, y) in [(-1.0, 5.0), (5.0, 64.5), (f32::NAN, 3.0)] {
            assert!(draw_disk(&Click { x, y, positive: true }, RADIUS, &cells, &mut guidance).is_err());
        }
    }

    #[test]
    fn a_mask_covers_cells_that_lie_in_it_by_more_than_half() {
        let cells = cells((8, 8), (8, 8), (4, 4));
        let mask = Array2::from_shape_fn((8, 8), |(_, x)| f32::from(x < 3));
        let mut guidance = Array4::zeros((1, 3, 4, 4));
        draw_mask(mask.view(), &cells, &mut guidance).unwrap();
        assert_eq!(guidance.slice(s![0, 2, 0, ..]).to_vec(), [1.0, 0.0, 0.0, 0.0]);
        assert!(draw_mask(Array2::from_elem((8, 7), 1.0).view(), &cells, &mut guidance).is_err());
    }
}
