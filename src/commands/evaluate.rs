//! `weakrest evaluate`

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weakrest::enroll::enroll;
use weakrest::evaluate::datasets::{Category, Format, read};
use weakrest::evaluate::{CategoryResult, evaluate};
use weakrest::inspector::Inspector;
use weakrest::report::{Entry, Order, OverlayOptions, Report, ReportWriter, Table, Truth, overlay};
use weakrest::{Error, ErrorKind, Package, Result};

use super::enroll::SettingsArguments;
use super::inspect::distinct_names;
use super::package::facts;
use super::terminal::{EnrollBar, picture_bar};
use super::{Outcome, RuntimeArguments, check_report, inspector};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// The data set: a folder of categories, or one category
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Its layout: mvtec, mvtec3d, btad, ksdd2, visa or mtd
    #[arg(long, value_name = "LAYOUT", default_value = "mvtec")]
    format: Format,
    /// Only this category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Evaluate this package instead of enrolling the training pictures
    #[arg(long, value_name = "PACKAGE", conflicts_with = "SettingsArguments")]
    package: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// Write an HTML report, the worst misses first (several categories: one report each, FILE-CATEGORY.html)
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Evaluated {
    #[serde(flatten)]
    result: CategoryResult,
    enroll_seconds: Option<f64>,
    bank_tokens: usize,
}

impl Evaluate {
    pub fn run(self) -> Result<Outcome> {
        if let Some(report) = &self.report {
            check_report(report)?;
        }
        let mut categories = read(&self.dataset, self.format)?;
        if let Some(name) = &self.category {
            let names: Vec<String> = categories.iter().map(|c| c.name.clone()).collect();
            categories.retain(|c| &c.name == name);
            if categories.is_empty() {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("there is no category {name}; there are {}", names.join(", ")),
                ));
            }
        }
        let mut all = Vec::new();
        for category in &categories {
            for note in &category.notes {
                remark!("note: {}: {note}", category.name);
            }
            all.push(self.category(category, categories.len())?);
        }
        if self.json {
            say!("{}", serde_json::json!({ "categories": all }))?;
        } else {
            table(&all)?;
        }
        Ok(Outcome::Pass)
    }

    fn category(&self, category: &Category, of: usize) -> Result<Evaluated> {
        let options = self.runtime.options();
        let (package, enroll_seconds) = match &self.package {
            Some(path) => (Package::open(path)?, None),
            None => {
                let mut bar = EnrollBar::new();
                let start = std::time::Instant::now();
                let enrolled = enroll(
                    &category.train,
                    &self.settings.backbone()?,
                    &self.settings.settings(category.name.clone()),
                    &options,
                    &mut |step, n, of| bar.show(step, n, of),
                )?;
                bar.finish();
                let enrolled = enrolled.ok_or_else(|| Error::new(ErrorKind::Usage, "stopped"))?;
                for picture in &enrolled.skipped {
                    remark!("note: {}: left out: {picture}", category.name);
                }
                (enrolled.package, Some(start.elapsed().as_secs_f64()))
            }
        };
        let bank_tokens = package.bank.len();
        let facts = facts(&package);
        let enrolled = package.manifest.images;
        let mut inspector = match &self.package {
            Some(path) => inspector(path, package, &options)?,
            None => Inspector::with_options(package, &options)?,
        };
        let path = self.report.as_ref().map(|path| match of {
            1 => path.clone(),
            _ => path.with_file_name(format!(
                "{}-{}.html",
                path.file_stem().unwrap_or_default().to_string_lossy(),
                category.name
            )),
        });
        let mut report = path.map(ReportWriter::create).transpose()?;
        let images: Vec<PathBuf> = category.test.iter().map(|s| s.image.clone()).collect();
        let names: HashMap<&PathBuf, String> = images.iter().zip(distinct_names(&images)).collect();
        let bar = picture_bar(category.test.len(), "inspecting");
        let mut result = evaluate(category, &mut inspector, |sample, frame, inspection, truth| {
            bar.inc(1);
            let (Some(report), Some(name)) = (&mut report, names.get(&sample.image)) else { return Ok(()) };
            let mask = sample.defect.is_some().then_some(truth.bits());
            let picture = overlay(frame, inspection, &OverlayOptions { truth: mask, ..Default::default() });
            report.add(&Entry {
                original: Some(&frame.to_rgb()),
                overlay: Some(&picture),
                truth: Some(sample.defect.as_deref().map_or(Truth::Good, Truth::Defective)),
                ..Entry::inspected(name, inspection)
            })
        })?;
        bar.finish_and_clear();
        result.enrolled = enrolled;
        for image in &result.left_out {
            remark!("note: {}: labeled defective, but its mask is empty: left out", image.display());
        }
        let evaluated = Evaluated { result, enroll_seconds, bank_tokens };
        if let Some(report) = report {
            let columns: Vec<String> = COLUMNS.iter().map(|c| c.to_string()).collect();
            report.finish(&Report {
                title: format!("Evaluation of {}", category.name),
                facts,
                tables: vec![Table { title: "Results".into(), columns, rows: vec![evaluated.cells()] }],
                order: Order::WorstFirst,
                ..Report::default()
            })?;
        }
        Ok(evaluated)
    }
}

const COLUMNS: [&str; 10] = [
    "category",
    "image AUROC",
    "pixel AUROC",
    "pixel AP",
    "PRO",
    "best F1",
    "false rejects",
    "misses",
    "ms/frame",
    "enroll s",
];

impl Evaluated {
    fn cells(&self) -> Vec<String> {
        let r = &self.result;
        let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.4}"));
        vec![
            r.name.clone(),
            share(r.image_auroc),
            share(r.pixels.map(|p| p.auroc)),
            share(r.pixels.map(|p| p.average_precision)),
            share(r.pixels.map(|p| p.pro)),
            share(r.image_best_f1.map(|f| f.f1)),
            format!("{}/{}", r.confusion.false_rejects, r.confusion.good),
            format!("{}/{}", r.confusion.misses, r.confusion.defective),
            format!("{:.1}", r.times.total.median),
            self.enroll_seconds.map_or("–".into(), |s| format!("{s:.1}")),
        ]
    }
}

fn table(all: &[Evaluated]) -> Result<()> {
    let rows: Vec<Vec<String>> =
        std::iter::once(COLUMNS.map(String::from).to_vec()).chain(all.iter().map(Evaluated::cells)).collect();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(i, (cell, &w))| if i == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
            .collect();
        say!("{}", line.join("  "))?;
    }
    Ok(())
}
