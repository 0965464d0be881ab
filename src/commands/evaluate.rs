//! `weakrest evaluate`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weakrest::enroll::enroll;
use weakrest::evaluate::datasets::{Category, Format, read};
use weakrest::evaluate::{CategoryResult, evaluate};
use weakrest::inspector::Inspector;
use weakrest::{Error, ErrorKind, Package, Result};

use super::enroll::SettingsArguments;
use super::terminal::{EnrollBar, picture_bar};
use super::{Outcome, RuntimeArguments};

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
    #[arg(long, value_name = "PACKAGE")]
    package: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
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
                eprintln!("note: {}: {note}", category.name);
            }
            all.push(self.category(category)?);
        }
        if self.json {
            println!("{}", serde_json::json!({ "categories": all }));
        } else {
            table(&all);
        }
        Ok(Outcome::Pass)
    }

    fn category(&self, category: &Category) -> Result<Evaluated> {
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
                (enrolled.package, Some(start.elapsed().as_secs_f64()))
            }
        };
        let bank_tokens = package.bank.len();
        let mut inspector = Inspector::with_options(package, &options)?;
        let bar = picture_bar(category.test.len(), "inspecting");
        let result = evaluate(category, &mut inspector, |_, _, _, _| {
            bar.inc(1);
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(Evaluated { result, enroll_seconds, bank_tokens })
    }
}

fn table(all: &[Evaluated]) {
    println!(
        "{:16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>9}",
        "category", "I-AUROC", "P-AUROC", "AP", "PRO", "best F1", "rejects", "misses", "ms", "enroll s"
    );
    for e in all {
        let r = &e.result;
        let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.4}"));
        println!(
            "{:16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8.1} {:>9}",
            r.name,
            share(r.image_auroc),
            share(r.pixels.map(|p| p.auroc)),
            share(r.pixels.map(|p| p.average_precision)),
            share(r.pixels.map(|p| p.pro)),
            share(r.image_best_f1.map(|f| f.f1)),
            format!("{}/{}", r.confusion.false_rejects, r.confusion.good),
            format!("{}/{}", r.confusion.misses, r.confusion.defective),
            r.times.total.median,
            e.enroll_seconds.map_or("–".into(), |s| format!("{s:.1}"))
        );
    }
}
