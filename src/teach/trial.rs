//! A package that is not active yet: what was measured, and what it changes.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use statrs::distribution::{Beta, ContinuousCDF};
use utoipa::ToSchema;

use super::store::{Answer, CANDIDATE, Event, ProductFolder};
use crate::error::{Error, ErrorKind, Result};
use crate::package::{ORDINARY, PAINTED, Package, Standard, ThresholdRule, golden_tolerance};

/// A picture's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scored {
    /// Name of the picture.
    pub picture: String,
    /// Its score.
    pub score: f32,
}

/// A package, and its scores of the judged pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trial {
    /// Names the package: SHA-256 of its manifest.
    pub package: String,
    /// When it was made (UTC).
    pub at: String,
    /// The level of quality.
    pub quality: String,
    /// Number of good pictures.
    pub images: usize,
    /// Number of parts that they show.
    pub parts: usize,
    /// Scores above it are rejected.
    pub threshold: f32,
    /// What the threshold promises.
    pub promise: String,
    /// Painted defects that it rejects: `kind`, `size`, `rejected`, `painted`.
    pub forecast: Value,
    /// Time of an inspection on this machine, in milliseconds, if nothing else runs.
    pub milliseconds: f64,
    /// What ran the networks.
    pub provider: String,
    /// Scores of the good pictures, each compared with the other parts only.
    pub good: Vec<Scored>,
    /// Scores of the known defects.
    pub bad: Vec<Scored>,
    /// Good pictures that score far above the others.
    pub outliers: Vec<String>,
    /// Why it may not work, and what to do.
    pub advice: Vec<String>,
}

impl Trial {
    /// Reads what `weakrest enroll --json` printed.
    pub fn from_summary(summary: &Value, at: String, quality: &str) -> Option<Trial> {
        let scored = |list: &Value| -> Option<Vec<Scored>> {
            let one = |entry: &Value| {
                let picture = Path::new(entry["path"].as_str()?).file_name()?.to_str()?.to_owned();
                Some(Scored { picture, score: entry["score"].as_f64()? as f32 })
            };
            list.as_array()?.iter().map(one).collect()
        };
        let outliers: Vec<String> =
            scored(&summary["outliers"])?.into_iter().map(|entry| entry.picture).collect();
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        let mut advice: Vec<String> =
            summary["advice"].as_array()?.iter().map(text).collect::<Option<_>>()?;
        if !outliers.is_empty() {
            advice.push(format!(
                "{} good pictures score far above the others and raise the threshold. Look at them below. Remove bad parts; \
                 collect more parts like the odd ones.",
                outliers.len()
            ));
        }
        Some(Trial {
            package: summary["hash"].as_str()?.to_owned(),
            at,
            quality: quality.to_owned(),
            images: summary["images"].as_u64()? as usize,
            parts: summary["parts"].as_array()?.len(),
            threshold: summary["threshold"]["value"].as_f64()? as f32,
            promise: summary["promise"].as_str()?.to_owned(),
            forecast: summary["forecast"].clone(),
            milliseconds: summary["milliseconds"].as_f64()?,
            provider: summary["provider"].as_str()?.to_owned(),
            good: scored(&summary["scores"])?,
            bad: Vec::new(),
            outliers,
            advice,
        })
    }

    /// A package that was enrolled elsewhere.
    pub fn unmeasured(package: &Package, at: String, promise: String) -> Trial {
        let manifest = &package.manifest;
        Trial {
            package: package.hash.clone(),
            at,
            quality: String::new(),
            images: manifest.images,
            parts: manifest.threshold.parts,
            threshold: manifest.threshold.value,
            promise,
            forecast: serde_json::to_value(&manifest.forecast).unwrap_or_default(),
            milliseconds: 0.0,
            provider: String::new(),
            good: Vec::new(),
            bad: Vec::new(),
            outliers: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Good pictures that the threshold rejects, and known defects that it passes.
    pub fn wrong(&self) -> (Vec<&str>, Vec<&str>) {
        let rejected = self.good.iter().filter(|s| s.score > self.threshold);
        let missed = self.bad.iter().filter(|s| s.score <= self.threshold);
        (rejected.map(|s| s.picture.as_str()).collect(), missed.map(|s| s.picture.as_str()).collect())
    }
}

/// What a trial changes, against the active package.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Changes {
    /// Good pictures that the active package rejects, and the trial does not.
    pub fewer_false_rejects: Vec<String>,
    /// Good pictures that the trial rejects, and the active package does not.
    pub more_false_rejects: Vec<String>,
    /// Known defects that the active package rejects, and the trial does not.
    pub newly_missed: Vec<String>,
    /// Known defects that the trial rejects, and the active package does not.
    pub newly_found: Vec<String>,
    /// Known defects that the trial does not reject.
    pub missed: Vec<String>,
    /// Number of good pictures, and of known defects.
    pub of: (usize, usize),
}

impl Changes {
    /// Compares scores of the same pictures. Pictures that only one of both has seen count for that one only.
    pub fn of(trial: &Trial, active: Option<&Trial>) -> Changes {
        let (rejected, missed) = trial.wrong();
        let (before_rejected, before_missed) = active.map(Trial::wrong).unwrap_or_default();
        let without = |these: &[&str], those: &[&str]| -> Vec<String> {
            these.iter().filter(|name| !those.contains(name)).map(|name| (*name).to_owned()).collect()
        };
        let seen = |scores: &[Scored], name: &str| scores.iter().any(|s| s.picture == name);
        let mut fewer = without(&before_rejected, &rejected);
        fewer.retain(|name| seen(&trial.good, name));
        let mut found = without(&before_missed, &missed);
        found.retain(|name| seen(&trial.bad, name));
        let mut newly_missed = without(&missed, &before_missed);
        newly_missed.retain(|name| active.is_some_and(|active| seen(&active.bad, name)));
        Changes {
            fewer_false_rejects: fewer,
            more_false_rejects: without(&rejected, &before_rejected),
            newly_missed,
            newly_found: found,
            missed: missed.iter().map(|name| (*name).to_owned()).collect(),
            of: (trial.good.len(), trial.bad.len()),
        }
    }
}

/// The share of good parts that a threshold rejects, by the scores of `count` good parts of which `above` are above it:
/// the estimate, and the limits that hold with 95 % (Clopper and Pearson 1934), each in parts per 1,000.
pub fn false_rejects(above: usize, count: usize) -> [f64; 3] {
    let (k, n) = (above as f64, count as f64);
    if count == 0 {
        return [0.0, 0.0, 1000.0];
    }
    let limit = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let low = if above == 0 { 0.0 } else { limit(k, n - k + 1.0, 0.025) };
    let high = if above == count { 1.0 } else { limit(k + 1.0, n - k, 0.975) };
    [1000.0 * k / n, 1000.0 * low, 1000.0 * high]
}

/// The notes for a package's history: who did what, with a run of alike events in one line.
pub fn notes(events: &[Event]) -> Vec<String> {
    let mut notes: Vec<(String, &str, String, usize)> = Vec::new();
    for event in events {
        match notes.last_mut() {
            Some((_, who, what, count)) if *who == event.who && kind(what) == kind(&event.what) => {
                *count += 1;
                *what = event.what.clone();
            }
            _ => notes.push((event.at.clone(), &event.who, event.what.clone(), 1)),
        }
    }
    let line = |(at, who, what, count): (String, &str, String, usize)| match count {
        1 => format!("{at} {who}: {what}"),
        _ => format!("{at} {who}: {what}, and {} more", count - 1),
    };
    notes.into_iter().map(line).collect()
}

/// The words of an event before the name of its picture.
fn kind(what: &str) -> &str {
    what.split_once(": ").map_or(what, |(kind, _)| kind)
}

/// The pictures of known defects, as paths.
pub fn defects(product: &ProductFolder) -> Result<Vec<std::path::PathBuf>> {
    let folder = product.file(Answer::Bad.name());
    Ok(product.pictures(Answer::Bad)?.into_iter().map(|name| folder.join(name)).collect())
}

/// The candidate, if its package is the one that was measured.
pub fn candidate(product: &ProductFolder) -> Result<Option<Trial>> {
    let trial: Option<Trial> = product.read(CANDIDATE_FILE)?;
    let hash = std::fs::read_to_string(product.file(CANDIDATE).join("package.sha256")).unwrap_or_default();
    Ok(trial.filter(|trial| hash.split_whitespace().next() == Some(trial.package.as_str())))
}

/// What was measured of the candidate, and of the active package.
pub const CANDIDATE_FILE: &str = "candidate.json";
pub const ACTIVE_FILE: &str = "active.json";

/// Refuses a threshold that rejects an ordinary good picture or passes a painted defect.
///
/// # Errors
/// [`ErrorKind::Usage`] with both scores.
pub fn check_threshold(package: &Package) -> Result<()> {
    let score = |file: &str| package.golden.iter().find(|g| g.info.file == file).map(|g| g.info.score);
    match (score(ORDINARY), score(PAINTED)) {
        (Some(ordinary), Some(painted)) => Standard { ordinary, painted }.check(
            package.manifest.threshold.value,
            ErrorKind::Usage,
            "choose a value between them",
        ),
        _ => Ok(()),
    }
}

/// The same package with another threshold.
///
/// # Errors
/// [`ErrorKind::Usage`] for a threshold that no score can be.
pub fn with_threshold(mut package: Package, threshold: f32, note: String) -> Result<Package> {
    if !(threshold.is_finite() && threshold >= 0.0) {
        return Err(Error::new(ErrorKind::Usage, format!("{threshold} is no score; set 0 or more")));
    }
    package.manifest.threshold.value = threshold;
    package.manifest.threshold.rule = ThresholdRule::Person;
    package.manifest.history.push(note);
    for golden in &mut package.golden {
        golden.tolerance = golden_tolerance(threshold, package.manifest.scores_are_probabilities());
    }
    Ok(package)
}
