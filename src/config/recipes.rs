//! Packages to choose from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::output::line;
use crate::output::line::bits;
use crate::package::{NUMBERS, RecipeFolder};

/// Packages to choose from: `[recipes]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipes {
    /// The folder of packages. Their names are `NUMBER-NAME.weakrest`, such as `7-bottle.weakrest`. Numbers go from 1
    /// to 65534. Recipe 0 is always `inspection.package`.
    pub folder: PathBuf,
    /// Times at the gate that are not those of `[line]`, by the recipe's number.
    #[serde(default)]
    pub line: BTreeMap<String, RecipeLine>,
    /// Digital lines that choose the recipe.
    pub bits: Option<bits::Settings>,
    /// The package of recipe 0.
    #[serde(skip)]
    pub(crate) first: PathBuf,
}

/// What a recipe has in the place of the keys of `[line]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecipeLine {
    /// Time from the trigger to the gate, in milliseconds.
    pub travel_ms: Option<f64>,
    /// Length of the pulse, in milliseconds.
    pub pulse_ms: Option<f64>,
    /// Time from the trigger to the verdict's deadline, in milliseconds, at most the travel time.
    pub deadline_ms: Option<f64>,
}

impl RecipeLine {
    fn adapt(&self, line: &mut line::Settings) {
        line.travel_ms = self.travel_ms.unwrap_or(line.travel_ms);
        line.pulse_ms = self.pulse_ms.unwrap_or(line.pulse_ms);
        line.deadline_ms = self.deadline_ms.or(line.deadline_ms);
    }
}

impl Recipes {
    /// The folder of packages.
    pub(crate) fn folder(&self) -> RecipeFolder {
        RecipeFolder(self.folder.clone())
    }

    /// Puts the times of a recipe in the place of those of `[line]`.
    pub(super) fn adapt(&self, line: &mut line::Settings, recipe: u16) {
        if let Some(own) = self.line.get(&recipe.to_string()) {
            own.adapt(line);
        }
    }

    /// The recipes with times of their own.
    pub(super) fn with_own_times(&self) -> impl Iterator<Item = u16> {
        self.line.keys().filter_map(|number| number.parse().ok())
    }

    /// `[line]`, and as each recipe changes it.
    pub(super) fn all_lines(&self, line: &line::Settings) -> impl Iterator<Item = line::Settings> {
        let own = self.line.values().map(|own| {
            let mut line = line.clone();
            own.adapt(&mut line);
            line
        });
        std::iter::once(line.clone()).chain(own)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the key.
    pub(super) fn validate(&self) -> Result<()> {
        for (name, own) in &self.line {
            // "07" would be another key for the recipe 7.
            let is_number = name.parse().is_ok_and(|n: u16| NUMBERS.contains(&n) && n.to_string() == *name);
            if !is_number {
                let what = "is no number of a recipe; set 1 to 65534, and the times of recipe 0 in [line]";
                return Err(Error::setting(format!("recipes.line.{name}"), what));
            }
            let times =
                [("travel_ms", own.travel_ms), ("pulse_ms", own.pulse_ms), ("deadline_ms", own.deadline_ms)];
            for (key, time) in times {
                time.map_or(Ok(()), |time| line::check_time(&format!("recipes.line.{name}.{key}"), time))?;
            }
        }
        self.bits.as_ref().map_or(Ok(()), bits::Settings::validate)
    }
}
