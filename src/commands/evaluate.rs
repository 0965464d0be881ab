//! `weakrest evaluate`

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::enroll::enroll;
use crate::evaluate::datasets::{Category, Format, Mask, leave_out, read};
use crate::evaluate::metrics::{ALLOWED_PERCENTS, Confusion, WidthClass};
use crate::evaluate::{CategoryResult, KindCount, evaluate};
use crate::inspector::{Inspector, Options, OverlayOptions, Provider, overlay};
use crate::report::{Entry, Order, Report, ReportWriter, Table, Truth};
use crate::{Error, ErrorKind, Package, Result};

use super::enroll::SettingsArguments;
use super::names::distinct_names;
use super::package::facts;
use super::report::check_report;
use super::terminal::{EnrollBar, picture_bar, print_table};
use super::{Outcome, RuntimeArguments, inspector};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Data set: a folder of categories, or one category
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Layout: mvtec, mvtec3d, btad, ksdd2, visa or mtd
    #[arg(long, value_name = "LAYOUT", default_value = "mvtec")]
    format: Format,
    /// Other name for folders of good parts (mvtec, mvtec3d, btad); repeatable
    #[arg(long, value_name = "NAME")]
    good: Vec<String>,
    /// Evaluate this category only
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// List the pictures as JSON and exit
    #[arg(long)]
    list: bool,
    /// File of pictures to leave out, one path per line
    #[arg(long, value_name = "FILE")]
    leave_out: Option<PathBuf>,
    /// Evaluate this package instead of enrolling
    #[arg(long, value_name = "PACKAGE", conflicts_with = "SettingsArguments")]
    package: Option<PathBuf>,
    /// Evaluate the packages DIR/CATEGORY.weakrest instead of enrolling
    #[arg(long, value_name = "DIR", conflicts_with = "package")]
    packages: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// Write an HTML report, worst misses first
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Also print the rejects per kind of part
    #[arg(long)]
    verdicts: bool,
    /// Print the results as JSON
    #[arg(long, conflicts_with = "verdicts")]
    json: bool,
}

#[derive(Serialize)]
struct Evaluated {
    #[serde(flatten)]
    result: CategoryResult,
    /// Promised share of false rejects, 0 to 1, of the threshold.
    promised_rate: f64,
    /// False rejects, as multiples of the promise; `None` without good test pictures.
    rejects_per_promise: Option<f64>,
    /// The slowest provider that ran a network.
    provider: Provider,
    enroll_seconds: Option<f64>,
    bank_tokens: usize,
    /// Facts about the package, for the report.
    #[serde(skip)]
    facts: Vec<(String, String)>,
}

impl Evaluate {
    pub fn run(self) -> Result<Outcome> {
        if let Some(report) = &self.report {
            check_report(report)?;
        }
        let mut categories = read(&self.dataset, self.format, &self.good)?;
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
        if let Some(file) = &self.leave_out {
            leave_out(&mut categories, file)?;
        }
        if self.list {
            say!("{}", serde_json::json!({ "categories": categories }))?;
            return Ok(Outcome::Pass);
        }
        let mut report = self.report.as_ref().map(ReportWriter::create).transpose()?;
        let mut all = Vec::new();
        for category in &categories {
            for note in category.notes.iter().chain(&category.check_masks()?) {
                remark!("note: {}: {note}", category.name);
            }
            let prefix = if categories.len() > 1 { format!("{}/", category.name) } else { String::new() };
            all.push(self.category(category, &prefix, report.as_mut())?);
        }
        if let Some(report) = report {
            report.finish(&Report {
                title: title(&all),
                facts: shared_facts(&all),
                tables: vec![results(&all), widths(&all), verdicts(&all)],
                order: Order::WorstFirst,
                ..Report::default()
            })?;
        }
        if self.json {
            say!("{}", serde_json::json!({ "categories": all }))?;
            return Ok(Outcome::Pass);
        }
        if self.verdicts {
            print_table(&verdicts(&all), 2)?;
            say!("")?;
        }
        print_table(&results(&all), 1)?;
        let widths = widths(&all);
        if !widths.rows.is_empty() {
            say!("")?;
            print_table(&widths, 2)?;
        }
        Ok(Outcome::Pass)
    }

    /// The package for a category, or none if its training pictures are to be enrolled.
    fn stored(&self, category: &Category) -> Option<PathBuf> {
        let beside = |folder: &PathBuf| folder.join(format!("{}.weakrest", category.name));
        self.package.clone().or_else(|| self.packages.as_ref().map(beside))
    }

    fn enroll(&self, category: &Category, options: &Options) -> Result<Package> {
        let mut bar = EnrollBar::new();
        let enrolled = enroll(
            &category.train,
            &self.settings.backbone()?,
            &self.settings.settings(category.name.clone())?,
            options,
            &mut |step, n, of| bar.show(step, n, of),
        )?;
        bar.finish();
        let enrolled = enrolled.ok_or_else(|| Error::new(ErrorKind::Usage, "stopped"))?;
        for picture in &enrolled.skipped {
            remark!("note: {}: left out: {picture}", category.name);
        }
        Ok(enrolled.package)
    }

    /// Evaluates one category. Its pictures' names in the report begin with `prefix`.
    fn category(
        &self,
        category: &Category,
        prefix: &str,
        mut report: Option<&mut ReportWriter>,
    ) -> Result<Evaluated> {
        let options = self.runtime.options();
        let stored = self.stored(category);
        let start = std::time::Instant::now();
        let package = match &stored {
            Some(path) => Package::open(path)?,
            None => self.enroll(category, &options)?,
        };
        let enroll_seconds = stored.is_none().then(|| start.elapsed().as_secs_f64());
        let bank_tokens = package.tokens();
        let mut facts = facts(&package);
        let enrolled = package.manifest.images;
        let promised_rate = package.manifest.threshold.promised_rate;
        let mut inspector = match &stored {
            Some(path) => inspector(path, package, &options)?,
            None => Inspector::with_options(package, &options)?,
        };
        let provider = inspector.provider();
        facts.push(("networks".into(), format!("run on {provider}")));
        let images: Vec<PathBuf> = category.test.iter().map(|s| s.image.clone()).collect();
        let names: HashMap<&PathBuf, String> = images.iter().zip(distinct_names(&images)).collect();
        let bar = picture_bar(category.test.len(), "inspecting");
        let mut result = evaluate(category, &mut inspector, |sample, frame, inspection, truth| {
            bar.inc(1);
            let (Some(report), Some(name)) = (&mut report, names.get(&sample.image)) else { return Ok(()) };
            let mask = truth.filter(|_| sample.defect.is_some()).map(Mask::bits);
            let picture = overlay(frame, inspection, &OverlayOptions { truth: mask, ..Default::default() });
            report.add(&Entry {
                original: Some(&frame.to_rgb()),
                overlay: Some(&picture),
                truth: Some(sample.defect.as_deref().map_or(Truth::Good, Truth::Defective)),
                ..Entry::inspected(&format!("{prefix}{name}"), inspection)
            })
        })?;
        bar.finish_and_clear();
        result.enrolled = enrolled;
        for image in &result.left_out {
            remark!("note: {}: left out: labeled defective, but its mask is empty", image.display());
        }
        let rejects_per_promise = result.confusion.false_reject_rate().map(|rate| rate / promised_rate);
        Ok(Evaluated {
            result,
            provider,
            promised_rate,
            rejects_per_promise,
            enroll_seconds,
            bank_tokens,
            facts,
        })
    }
}

/// The most names in a title.
const NAMED: usize = 5;

fn title(all: &[Evaluated]) -> String {
    let names: Vec<&str> = all.iter().map(|e| e.result.name.as_str()).collect();
    match names.len() {
        0..=NAMED => format!("Evaluation of {}", names.join(", ")),
        many => format!("Evaluation of {many} categories"),
    }
}

/// The facts that all packages share, then one line of other facts per category.
fn shared_facts(all: &[Evaluated]) -> Vec<(String, String)> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let shared = |fact| others.iter().all(|o| o.facts.contains(fact));
    let mut facts: Vec<_> = first.facts.iter().filter(|f| shared(f)).cloned().collect();
    if others.is_empty() {
        return facts;
    }
    for evaluated in all {
        let own: Vec<String> = evaluated
            .facts
            .iter()
            .filter(|f| !shared(f) && f.1 != evaluated.result.name)
            .map(|(label, value)| format!("{label} {value}"))
            .collect();
        facts.push((evaluated.result.name.clone(), own.join(" · ")));
    }
    facts
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

/// The accuracy of each category.
fn results(all: &[Evaluated]) -> Table {
    let columns =
        ["category", "image AUROC", "pixel AUROC", "pixel AP", "PRO", "best F1", "false rejects", "misses"];
    let allowed = ALLOWED_PERCENTS.map(|percent| format!("misses at {percent} %"));
    let columns = [strings(&columns), allowed.to_vec(), strings(&["ms/frame", "enroll s"])].concat();
    let misses = |counts: &Confusion| format!("{}/{}", counts.misses, counts.defective);
    let row = |evaluated: &Evaluated| {
        let r = &evaluated.result;
        let mut cells = vec![
            r.name.clone(),
            share(r.image_auroc),
            share(r.pixels.map(|p| p.auroc)),
            share(r.pixels.map(|p| p.average_precision)),
            share(r.pixels.map(|p| p.pro)),
            share(r.image_best_f1.map(|f| f.f1)),
            format!("{}/{}", r.confusion.false_rejects, r.confusion.good),
            misses(&r.confusion),
        ];
        cells.extend(ALLOWED_PERCENTS.map(|percent| {
            let at = r.allowed.iter().find(|a| a.percent == percent);
            at.map_or("–".into(), |a| misses(&a.confusion))
        }));
        cells.push(format!("{:.1}", r.times.total.median));
        cells.push(evaluated.enroll_seconds.map_or("–".into(), |s| format!("{s:.1}")));
        cells
    };
    Table { title: "Results".into(), columns, rows: all.iter().map(row).collect() }
}

fn share(value: Option<f64>) -> String {
    value.map_or("–".into(), |v| format!("{v:.4}"))
}

/// The accuracy on defects of each width that there is.
fn widths(all: &[Evaluated]) -> Table {
    let classes = all.iter().flat_map(|e| e.result.widths.iter().flatten().map(|c| (&e.result.name, c)));
    let row = |(category, class): (&String, &WidthClass)| {
        let range = match class.below {
            Some(below) => format!("{} to {below} px", class.from),
            None => format!("{} px or more", class.from),
        };
        vec![
            category.clone(),
            range,
            share(class.image_auroc),
            format!("{}/{}", class.misses, class.defective),
        ]
    };
    Table {
        title: "Widths of defects, in the scaled picture".into(),
        columns: strings(&["category", "defect's width", "image AUROC", "misses"]),
        rows: classes.filter(|(_, class)| class.defective > 0).map(row).collect(),
    }
}

/// The verdicts on each kind of part.
fn verdicts(all: &[Evaluated]) -> Table {
    let kinds = all.iter().flat_map(|e| e.result.kinds.iter().map(|kind| (&e.result.name, kind)));
    let row = |(category, kind): (&String, &KindCount)| {
        let passed = kind.pictures - kind.rejected;
        let mistakes = match &kind.defect {
            None if kind.rejected > 0 => format!("{} falsely rejected", kind.rejected),
            Some(_) if passed > 0 => format!("{passed} missed"),
            _ => "none".into(),
        };
        vec![
            category.clone(),
            kind.defect.clone().unwrap_or_else(|| "good".into()),
            kind.pictures.to_string(),
            passed.to_string(),
            kind.rejected.to_string(),
            mistakes,
        ]
    };
    Table {
        title: "Verdicts".into(),
        columns: strings(&["category", "parts", "pictures", "passed", "rejected", "mistakes"]),
        rows: kinds.map(row).collect(),
    }
}
