//! Settings in TOML. Every error names its key, and every key knows its line.

mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind, Result};
use reader::{Fault, Reader};

/// Refuses a value outside of `bounds`.
///
/// # Errors
/// [`ErrorKind::Usage`] naming the key.
pub(crate) fn range<T>(key: &str, value: T, bounds: impl RangeBounds<T>) -> Result<()>
where
    T: PartialOrd + fmt::Display,
{
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(Error::setting(key, format!("{value} is out of range; set {}", wanted(&bounds))))
}

/// The values within `bounds`: `1 to 5`, `more than 0 and at most 5`.
pub(crate) fn wanted<T: fmt::Display>(bounds: &impl RangeBounds<T>) -> String {
    if let (Bound::Included(low), Bound::Included(high)) = (bounds.start_bound(), bounds.end_bound()) {
        return format!("{low} to {high}");
    }
    let low = match bounds.start_bound() {
        Bound::Included(low) => Some(format!("at least {low}")),
        Bound::Excluded(low) => Some(format!("more than {low}")),
        Bound::Unbounded => None,
    };
    let high = match bounds.end_bound() {
        Bound::Included(high) => Some(format!("at most {high}")),
        Bound::Excluded(high) => Some(format!("less than {high}")),
        Bound::Unbounded => None,
    };
    low.into_iter().chain(high).collect::<Vec<_>>().join(" and ")
}

/// Reads settings, and the lines of their keys.
///
/// # Errors
/// [`ErrorKind::Usage`] naming file, line and key. It never shows a value, which may be a secret in the wrong
/// place.
pub(crate) fn read<T: DeserializeOwned>(text: &str, file: &str) -> Result<(T, Lines)> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut places = Vec::new();
    list(table.get_ref(), "", &mut places);
    if let Some(e) = errors.first() {
        let at = e.span().map_or(0, |span| span.start);
        let error = Error::new(ErrorKind::Usage, format!("is not TOML: {}; correct it", e.message().trim()));
        // An error in the value of a key. Elsewhere the key itself is in doubt.
        let place =
            places.iter().rev().find(|p| p.value.start <= at && at <= p.value.end && p.is_whole(text));
        let error = match place {
            Some(place) => error.with_key(&place.key),
            None => error,
        };
        return Err(error.within(format!("{file}:{}", line_of(text, at))));
    }
    let keys = places.into_iter().map(|p| (p.key, line_of(text, p.name.start))).collect();
    let lines = Lines { file: file.into(), keys: Arc::new(keys) };
    let table = DeValue::Table(table.into_inner());
    match T::deserialize(Reader::new(&table)) {
        Ok(settings) => Ok((settings, lines)),
        Err(Fault { key, what }) => Err(lines.locate(Error::setting(key, what))),
    }
}

/// The lines of a file's keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    file: String,
    keys: Arc<BTreeMap<String, usize>>,
}

/// Settings on other lines are the same settings.
impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Lines {
    /// Adds file and line to an error that names a key.
    pub(crate) fn locate(&self, error: Error) -> Error {
        match error.key().map(|key| self.line(key)) {
            Some(line) => error.within(format!("{}:{line}", self.file)),
            None => error,
        }
    }

    /// The line of a key. A missing key has the line of its table.
    fn line(&self, mut key: &str) -> usize {
        loop {
            match (self.keys.get(key), key.rfind(['.', '['])) {
                (Some(line), _) => return *line,
                (None, Some(end)) => key = &key[..end],
                (None, None) => return 1,
            }
        }
    }
}

/// The line at a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}

/// The ranges of a key and its value in the text.
struct Place {
    key: String,
    name: Range<usize>,
    value: Range<usize>,
}

impl Place {
    /// Whether there is a value. `ABC==` is encoded text, maybe a secret, and no key.
    fn is_whole(&self, text: &str) -> bool {
        text.get(self.value.clone()).is_some_and(|value| !value.trim_start_matches(['=', ' ']).is_empty())
    }
}

fn list(table: &DeTable<'_>, within: &str, places: &mut Vec<Place>) {
    for (name, value) in table.iter() {
        let key = join(within, &spelled(name.get_ref()));
        list_value(key, name.span(), value, places);
    }
}

fn list_value(key: String, name: Range<usize>, value: &Spanned<DeValue<'_>>, places: &mut Vec<Place>) {
    places.push(Place { key: key.clone(), name, value: value.span() });
    match value.get_ref() {
        DeValue::Table(table) => list(table, &key, places),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                list_value(format!("{key}[{i}]"), element.span(), element, places);
            }
        }
        _ => {}
    }
}

/// A full key from its parts, as TOML spells it.
pub(crate) fn path(parts: &[&str]) -> String {
    parts.iter().fold(String::new(), |within, part| join(&within, &spelled(part)))
}

/// A key as TOML spells it.
fn spelled(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}

fn join(within: &str, key: &str) -> String {
    match (within, key) {
        ("", key) | (key, "") => key.to_owned(),
        (within, key) if key.starts_with('[') => format!("{within}{key}"),
        (within, key) => format!("{within}.{key}"),
    }
}
