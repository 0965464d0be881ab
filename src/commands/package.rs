//! `weakrest package`

use std::ops::Bound::{Excluded, Included};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::enroll::{add_head, promise};
use crate::inspector::Options;
use crate::package::install::{Candidate, Rules, previous};
use crate::package::{ClickFile, PublicKeys, ReadsResiduals, Source, check_target};
use crate::{Error, ErrorKind, Package, Result, package};
use clap::{Args, Subcommand};
use posfar::Matching;

use super::enroll::{open_head, summarize, unless_stopped};
use super::{Outcome, RuntimeArguments, inspector, number, pictures_in};

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
    /// Put a trained network into a package that turns clicks into masks, for `weakrest label`
    AddAdclick {
        /// The package
        package: PathBuf,
        /// The network: NAME.onnx, with its manifest NAME.toml and its prompts NAME.safetensors beside it
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The package to write
        #[arg(long, value_name = "PACKAGE")]
        output: PathBuf,
        /// Replace an existing package
        #[arg(long)]
        overwrite: bool,
    },
    /// Check every file, and that the golden images still get their scores on this machine
    Verify {
        /// The package
        package: PathBuf,
        /// Public key of minisign, or its file, with which the package must be signed
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Fetch a signed package, verify it, and put it in the place of the one in use, which is kept
    Install {
        /// The package: a folder, or the https:// address of one
        source: String,
        #[command(flatten)]
        place: PlaceArguments,
        /// Public key of minisign, or its file, with which the package must be signed (default: those of the configuration)
        #[arg(long = "key", value_name = "KEY", conflicts_with_all = ["config", "unsigned"])]
        keys: Vec<String>,
        /// Take a package whatever its signature
        #[arg(long)]
        unsigned: bool,
        /// Certificates (PEM) of those who vouch for the server (default: those that this system trusts)
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Give a server up after so long (default: a minute, and what the package takes at a megabit a second)
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true,
            value_parser = number::<f64>(Excluded(0.0), Included(1e6)))]
        patience: Option<f64>,
        /// Take a package of another product than the one in use
        #[arg(long)]
        other_product: bool,
        /// Take a package that was signed before the one in use
        #[arg(long)]
        older: bool,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Change places with the package that was in use before
    Rollback {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
}

/// Which package is replaced.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PlaceArguments {
    /// Where the package is, or is to be
    package: Option<PathBuf>,
    /// The service's configuration, which says where its package is and whose signature it needs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where a package is installed, whose signature it needs, and what it is tried on.
struct Target {
    package: PathBuf,
    keys: PublicKeys,
    options: Options,
}

impl PlaceArguments {
    fn target(self, runtime: &RuntimeArguments) -> Result<Target> {
        let Some(file) = self.config else {
            let package = self.package.unwrap_or_default();
            return Ok(Target { package, keys: PublicKeys::default(), options: runtime.options() });
        };
        let config = Config::read(&file)?;
        let keys = config.inspection.keys().map_err(|e| config.locate(e))?;
        let options = runtime.options_over(config.inspection.options());
        Ok(Target { package: config.inspection.package, keys, options })
    }
}

impl Target {
    /// Puts a package in place once its golden images get their scores here.
    fn install(self, package: Package, candidate: Candidate) -> Result<()> {
        let (product, hash) = (package.manifest.product.clone(), package.hash.clone());
        let signed = package.signed.clone();
        inspector(&self.package, package, &self.options)?;
        candidate.install()?;
        say!("{}: package {hash} of {product} is in place", self.package.display())?;
        if let Some(signed) = signed {
            say!("signed: {}", signed.comment)?;
        }
        let before = previous(&self.package);
        if before.exists() {
            say!("the one before is kept as {}", before.display())?;
        }
        say!("a running service takes it when told: systemctl reload weakrest")
    }
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
                let (pictures, head) = (pictures_in(&images)?, open_head(&head)?);
                let (contents, options) = (Package::open(&package)?, runtime.options());
                let mut done =
                    unless_stopped(|progress| add_head(contents, &head, &pictures, &options, progress))?;
                done.package.write(&output, overwrite)?;
                summarize(&done, &output.display().to_string(), start.elapsed().as_secs_f64())?;
            }
            Action::AddAdclick { package, network, output, overwrite } => {
                check_target(&output, overwrite)?;
                let mut contents = Package::open(&package)?;
                let file = ClickFile::open(&network)?;
                let (name, count) = (file.network.info.name.clone(), file.prompts.0.len());
                contents.add_adclick(file).map_err(|e| e.within(network.display()))?;
                contents.write(&output, overwrite)?;
                say!("{}: package with {name}, which knows {count} prompts", output.display())?;
            }
            Action::Verify { package, keys, runtime } => {
                let contents = Package::open_signed(&package, &PublicKeys::read(&keys)?)?;
                let (files, golden) = (contents.manifest.files.len() + 1, contents.golden.len());
                let signed = contents.signed.clone();
                inspector(&package, contents, &runtime.options())?;
                say!(
                    "{}: {files} files unchanged, {golden} golden images get their scores",
                    package.display()
                )?;
                if let Some(signed) = signed {
                    say!("signed: {}", signed.comment)?;
                }
            }
            Action::Install {
                source,
                place,
                keys,
                unsigned,
                ca,
                patience,
                other_product,
                older,
                runtime,
            } => {
                let mut target = place.target(&runtime)?;
                if !keys.is_empty() {
                    target.keys = PublicKeys::read(&keys)?;
                }
                let usage = |text: &str| Err(Error::new(ErrorKind::Usage, text));
                match (target.keys.is_empty(), unsigned) {
                    (true, false) => {
                        return usage(
                            "whose signature must the package have? name the public key in inspection.public_keys of the \
                             configuration, or with --key; --unsigned takes it whatever its signature",
                        );
                    }
                    (false, true) => {
                        return usage(
                            "inspection.public_keys requires a signature: the service would not take it",
                        );
                    }
                    _ => {}
                }
                let patience = patience.map(Duration::from_secs_f64);
                let source = Source::new(&source, ca.as_deref())?.with_patience(patience);
                let rules = Rules { keys: target.keys.clone(), other_product, older };
                match Candidate::fetch(source, &target.package, &rules)? {
                    Some((package, candidate)) => target.install(package, candidate)?,
                    None => say!("{}: this package is installed already", target.package.display())?,
                }
            }
            Action::Rollback { place, runtime } => {
                let target = place.target(&runtime)?;
                let (package, candidate) = Candidate::previous(&target.package, &target.keys)?;
                target.install(package, candidate)?;
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
    let taps: Vec<String> = manifest.backbone.kind.taps.iter().map(|tap| tap.stride.to_string()).collect();
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
                manifest.scaling.longest_side,
                if manifest.scaling.native { " on average, not scaled" } else { "" },
                manifest.backbone.kind.stride
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
                Some(head) => {
                    format!("{} ({}; {}; {})", head.name, head.kind.setting(), head.source, head.license)
                }
            },
        ),
        (
            "clicks",
            match &manifest.adclick {
                None => "no network of its own".into(),
                Some(network) => format!("{} ({}; {})", network.name, network.source, network.license),
            },
        ),
        ("threshold", format!("{:.4} ({rule})", threshold.value)),
        ("promise", promise(threshold)),
        ("size", format!("{:.1} MB", contents.size() as f64 / 1e6)),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .to_vec()
}
