//! `weakrest package`

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};
use weakrest::enroll::{add_head, find_pictures, promise};
use weakrest::package::check_target;
use weakrest::posfar::Matching;
use weakrest::{Package, Result, package};

use super::enroll::{open_head, summarize, unless_stopped};
use super::{Outcome, RuntimeArguments, inspector};

/// Arguments of `package`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what a package holds (its files are checked)
    Show {
        /// The package
        package: PathBuf,
        /// Print the manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a trained head into a package, and set the threshold anew
    AddHead {
        /// The package
        package: PathBuf,
        /// The head: NAME.onnx with its manifest NAME.toml beside it, or `general`, the built-in one
        #[arg(long, value_name = "FILE")]
        head: PathBuf,
        /// Folder with pictures of good parts, such as those that were enrolled: their scores set the threshold
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        /// The package to write
        #[arg(long, value_name = "PACKAGE")]
        output: PathBuf,
        /// Replace an existing package
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Check every file, and that the golden images still get their scores on this machine
    Verify {
        /// The package
        package: PathBuf,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
}

impl Arguments {
    pub fn run(self) -> Result<Outcome> {
        match self.action {
            Action::Show { package, json } => {
                let contents = Package::open(&package)?;
                if json {
                    say!("{}", serde_json::json!({ "hash": contents.hash, "manifest": contents.manifest }))?;
                } else {
                    for (label, value) in facts(&contents) {
                        say!("{label:15} {value}")?;
                    }
                }
            }
            Action::AddHead { package, head, images, output, overwrite, runtime } => {
                let start = Instant::now();
                check_target(&output, overwrite)?;
                let (pictures, head) = (find_pictures(&images)?, open_head(&head)?);
                let (contents, options) = (Package::open(&package)?, runtime.options());
                let mut done =
                    unless_stopped(|progress| add_head(contents, &head, &pictures, &options, progress))?;
                done.package.write(&output, overwrite)?;
                summarize(&done, &output.display().to_string(), start.elapsed().as_secs_f64())?;
            }
            Action::Verify { package, runtime } => {
                let contents = Package::open(&package)?;
                let (files, golden) = (contents.manifest.files.len() + 1, contents.golden.len());
                inspector(&package, contents, &runtime.options())?;
                say!(
                    "{}: {files} files unchanged, {golden} golden images get their scores",
                    package.display()
                )?;
            }
        }
        Ok(Outcome::Pass)
    }
}

/// What people want to know of a package, as label and value.
pub fn facts(contents: &Package) -> Vec<(String, String)> {
    let manifest = &contents.manifest;
    let bank = &contents.bank;
    let threshold = &manifest.threshold;
    let matching = match manifest.posfar.matching {
        Matching::Soft { weight } => format!("soft, position weight {weight}"),
        Matching::Window { reach } => format!("window of {reach} of the longer side"),
    };
    let rule = package::THRESHOLD_RULES
        .iter()
        .find(|(rule, _)| *rule == threshold.rule)
        .map_or("", |(_, words)| words);
    let taps: Vec<String> = manifest.backbone.taps.iter().map(u32::to_string).collect();
    [
        ("product", manifest.product.clone()),
        ("package", contents.hash.clone()),
        ("made by", manifest.made_by.clone()),
        (
            "enrolled",
            format!("{} good pictures, {}, {}", manifest.images, manifest.input.color, manifest.input.size),
        ),
        (
            "longest side",
            format!(
                "{} pixels{}, grid of {}-pixel blocks",
                manifest.geometry.longest_side,
                if manifest.geometry.native { " on average, not scaled" } else { "" },
                manifest.geometry.stride
            ),
        ),
        (
            "backbone",
            format!(
                "{} (strides {}; {}; {})",
                manifest.backbone.name,
                taps.join(", "),
                manifest.backbone.source,
                manifest.backbone.license
            ),
        ),
        (
            "bank",
            format!("{} tokens of {} channels, {} for distances", bank.len(), bank.channels(), bank.dims()),
        ),
        ("matching", format!("{matching}, {} most similar pictures", manifest.posfar.images)),
        (
            "head",
            match &manifest.head {
                None => "none: a block is as strange as its residual is long".into(),
                Some(head) => format!("{} ({}; {}; {})", head.name, head.setting, head.source, head.license),
            },
        ),
        ("threshold", format!("{:.4} ({rule})", threshold.value)),
        ("promise", promise(threshold)),
        ("size", format!("{:.1} MB", contents.size() as f64 / 1e6)),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .to_vec()
}
