//! `weakrest package`

use std::ops::Bound::{Excluded, Included};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use posfar::{Bank, Matching};

use crate::config::Config;
use crate::enroll::{Variation, add_head, promise};
use crate::inspector::Options;
use crate::package::install::{Candidate, Rules, previous};
use crate::package::{ClickFile, PublicKeys, ReadsResiduals, Scale, Source, check_target};
use crate::{Error, ErrorKind, Package, Result, package};

use super::enroll::{KnownDefects, forecast, open_head, summarize, unless_stopped};
use super::terminal::EnrollBar;
use super::{Outcome, RuntimeArguments, inspector, number, pictures_in};

/// Arguments of `package`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a package's contents, and verify its files
    Show {
        /// Package to show
        package: PathBuf,
        /// Print the manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a trained head to a package, and set its threshold again
    AddHead {
        /// Package to extend
        package: PathBuf,
        /// Trained head: NAME.onnx, with NAME.toml beside it, or `general`, which is built in
        #[arg(long, value_name = "FILE")]
        head: PathBuf,
        /// Folder of pictures of good parts, whose scores set the threshold
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        #[command(flatten)]
        known: KnownDefects,
        /// Package to write
        #[arg(long, value_name = "PACKAGE")]
        output: PathBuf,
        /// Replace an existing package
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Add a trained click network to a package, for `weakrest label`
    AddAdclick {
        /// Package to extend
        package: PathBuf,
        /// Click network: NAME.onnx, with NAME.toml and NAME.safetensors beside it
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// Package to write
        #[arg(long, value_name = "PACKAGE")]
        output: PathBuf,
        /// Replace an existing package
        #[arg(long)]
        overwrite: bool,
    },
    /// Verify a package's files, and its golden scores on this machine
    Verify {
        /// Package to verify
        package: PathBuf,
        /// Minisign public key, or its file, of an accepted signature; repeatable
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Fetch and verify a signed package, and replace the one in use
    Install {
        /// Package: a folder, or the https:// address of one
        source: String,
        #[command(flatten)]
        place: PlaceArguments,
        /// Minisign public key, or its file, of an accepted signature [default: the configuration's]
        #[arg(long = "key", value_name = "KEY", conflicts_with_all = ["config", "unsigned"])]
        keys: Vec<String>,
        /// Do not verify the signature
        #[arg(long)]
        unsigned: bool,
        /// Certificate authorities to trust for the server (PEM) [default: the system's]
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Time limit for the server [default: 60, and the package's time at 1 Mbit/s]
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true,
            value_parser = number::<f64>(Excluded(0.0), Included(1e6)))]
        patience: Option<f64>,
        /// Accept a package of another product
        #[arg(long)]
        other_product: bool,
        /// Accept a package that was signed before the one in use
        #[arg(long)]
        older: bool,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
    /// Swap the package in use with the previous one
    Rollback {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        runtime: RuntimeArguments,
    },
}

/// The package to replace.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PlaceArguments {
    /// Path of the package in use
    package: Option<PathBuf>,
    /// Configuration that names the package in use and its public keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The path to install a package to, the keys that must have signed it, and the options to test it with.
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
    /// Installs a package if its golden scores match on this machine.
    fn install(self, package: Package, candidate: Candidate) -> Result<()> {
        let (product, hash) = (package.manifest.product.clone(), package.hash.clone());
        let signed = package.signed.clone();
        inspector(&self.package, package, &self.options)?;
        candidate.install()?;
        say!("{}: package {hash} of {product} is installed", self.package.display())?;
        if let Some(signed) = signed {
            say!("signed: {}", signed.comment)?;
        }
        let before = previous(&self.package);
        if before.exists() {
            say!("the previous package is kept as {}", before.display())?;
        }
        say!("use it in a running service with: systemctl reload weakrest")
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
                    for line in forecast(&contents.manifest) {
                        say!("{line}")?;
                    }
                    for (at, note) in contents.manifest.history.iter().enumerate() {
                        say!("{:15} {note}", if at == 0 { "history" } else { "" })?;
                    }
                }
            }
            Action::AddHead { package, head, images, known, output, overwrite, runtime } => {
                let start = Instant::now();
                check_target(&output, overwrite)?;
                let (pictures, head) = (pictures_in(&images)?, open_head(&head)?);
                let defects = known.pictures()?;
                let (contents, options) = (Package::open(&package)?, runtime.options());
                let mut done = unless_stopped(EnrollBar::new(), |progress| {
                    add_head(contents, &head, &pictures, &defects, &options, progress)
                })?;
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
            Action::Verify { package, keys, json, runtime } => {
                let contents = Package::open_signed(&package, &PublicKeys::read(&keys)?)?;
                let (files, golden) = (contents.manifest.files.len() + 1, contents.golden.len());
                let signed = contents.signed.clone();
                let hash = contents.hash.clone();
                inspector(&package, contents, &runtime.options())?;
                if json {
                    let signed = signed.map(|signed| signed.comment);
                    let result = serde_json::json!({ "hash": hash, "files": files, "golden": golden, "signed": signed });
                    say!("{result}")?;
                    return Ok(Outcome::Pass);
                }
                say!("{}: {files} files unchanged, {golden} golden scores match", package.display())?;
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
                            "there is no public key to verify the package; set inspection.public_keys, add --key, or \
                             skip the signature with --unsigned",
                        );
                    }
                    (false, true) => {
                        return usage(
                            "inspection.public_keys is set, so the service would refuse an unsigned package; remove --unsigned",
                        );
                    }
                    _ => {}
                }
                let patience = patience.map(Duration::from_secs_f64);
                let source = Source::new(&source, ca.as_deref())?.with_patience(patience);
                let rules = Rules { keys: target.keys.clone(), other_product, older };
                match Candidate::fetch(source, &target.package, &rules)? {
                    Some((package, candidate)) => target.install(package, candidate)?,
                    None => say!("{}: this package is already installed", target.package.display())?,
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

/// Facts about a package: label and value.
pub fn facts(contents: &Package) -> Vec<(String, String)> {
    let manifest = &contents.manifest;
    let threshold = &manifest.threshold;
    let matching = match manifest.posfar.matching {
        Matching::Soft { weight } => format!("soft, position weight {weight}"),
        Matching::Window { reach } => format!("window of {reach} of the longer side"),
    };
    let rule = package::THRESHOLD_RULES
        .iter()
        .find(|(rule, _)| *rule == threshold.rule)
        .map_or("", |(_, words)| words);
    let strides = |scale: &Scale| {
        let strides: Vec<String> = scale.taps.iter().map(|tap| tap.stride.to_string()).collect();
        strides.join(", ")
    };
    let strides: Vec<String> = manifest.backbone.kind.scales.iter().map(strides).collect();
    let bank = |bank: &Bank| {
        format!("{} tokens of {} channels, {} for distances", bank.len(), bank.channels(), bank.dims())
    };
    let banks: Vec<String> = contents.banks.iter().map(bank).collect();
    [
        ("product", manifest.product.clone()),
        ("package", contents.hash.clone()),
        ("made by", manifest.made_by.clone()),
        (
            "enrolled",
            format!(
                "{} good pictures{}, {}, {}",
                manifest.images,
                match contents.pictures.parts().len() {
                    parts if parts == manifest.images => String::new(),
                    parts => format!(" of {parts} parts"),
                },
                manifest.input.color,
                manifest.input.size
            ) + match manifest.variations[..] {
                [] => "",
                [Variation::Light] => ", a copy of each in other light",
                [Variation::Noise] => ", a copy of each with noise",
                _ => ", a copy of each in other light and with noise",
            },
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
            "ignored",
            match manifest.scaling.ignore.len() {
                0 => "nothing".into(),
                1 => "an area".into(),
                areas => format!("{areas} areas"),
            },
        ),
        (
            "backbone",
            format!(
                "{} (strides {}; {}; {})",
                manifest.backbone.name,
                strides.join(" | "),
                manifest.backbone.source,
                manifest.backbone.license
            ),
        ),
        ("bank", banks.join("; ")),
        ("matching", format!("{matching}, {} most similar pictures", manifest.posfar.images)),
        (
            "head",
            match &manifest.head {
                None => "none; the score of a block is the length of its residual".into(),
                Some(head) => {
                    format!("{} ({}; {}; {})", head.name, head.kind.setting(), head.source, head.license)
                }
            },
        ),
        (
            "clicks",
            match &manifest.adclick {
                None => "built-in network".into(),
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
