//! Which good pictures show the same part.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ndarray::{Array3, Axis};
use posfar::retrieval;
use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};

/// How pictures of the same part are found.
///
/// Such pictures are left out together when one of them is scored. Otherwise a part would be compared with itself, and
/// the threshold would be too low for new parts.
///
/// ```
/// use weakrest::enroll::{GroupBy, Settings};
///
/// let settings = Settings { group_by: GroupBy::Name("(*)_view*".parse()?), ..Settings::default() };
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// By their likeness: pictures that are nearer to each other than to any other picture by a factor of 1.5, as
    /// several pictures of a part that does not move. A group has at most a quarter of the pictures. With fewer than 10
    /// groups, or more than 10,000 pictures, each picture shows a part of its own.
    #[default]
    Likeness,
    /// By their folder.
    Folder,
    /// By their name.
    Name(NamePattern),
    /// Each picture shows a part of its own.
    Nothing,
}

/// A pattern of file names without their ending. `(*)` stands for the part's name, `*` for any text. Each takes as little
/// text as possible.
///
/// ```
/// use weakrest::enroll::NamePattern;
///
/// let pattern: NamePattern = "(*)_Part*".parse()?;
/// assert_eq!(pattern.part("kos01_Part7"), Some("kos01"));
/// assert_eq!(pattern.part("overview"), None);
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// The text before the first star, between stars, and after the last.
    texts: Vec<String>,
    /// The number of the star in parentheses.
    part: usize,
}

impl FromStr for NamePattern {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Usage`] unless the pattern has `(*)` exactly once.
    fn from_str(text: &str) -> Result<Self> {
        let Some((before, after)) = text.split_once("(*)").filter(|(_, after)| !after.contains("(*)")) else {
            let wrong = format!("the pattern {text:?} needs (*) exactly once, in place of the part's name");
            return Err(Error::new(ErrorKind::Usage, wrong));
        };
        let texts = before.split('*').chain(after.split('*')).map(str::to_owned).collect();
        Ok(NamePattern { texts, part: before.matches('*').count() })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (star, text) in self.texts.iter().enumerate() {
            match star {
                0 => {}
                star if star == self.part + 1 => f.write_str("(*)")?,
                _ => f.write_str("*")?,
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl NamePattern {
    /// The part's name, if the pattern fits the whole `name`.
    pub fn part<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (first, rest) = self.texts.split_first()?;
        let (last, middle) = rest.split_last()?;
        let body = name.strip_prefix(first.as_str())?.strip_suffix(last.as_str())?;
        // The shortest text for each star but the last one, which takes the rest: if any choice fits, this one does.
        let (mut at, mut part) = (0, None);
        for (star, text) in middle.iter().map(Some).chain([None]).enumerate() {
            let end = match text {
                Some(text) => at + body[at..].find(text.as_str())?,
                None => body.len(),
            };
            if star == self.part {
                part = Some(&body[at..end]);
            }
            at = end + text.map_or(0, String::len);
        }
        part
    }
}

/// Pictures farther from all others than from each other by this factor show one part. In seven public data sets without
/// repeated parts (28 to 209 pictures) it joins two pairs.
const GAP: f32 = 1.5;
/// Largest share of the pictures that one found group may have: the ordinary pictures beside a few odd ones are no group.
const LARGEST: f64 = 0.25;
/// Fewer groups are rather kinds of parts: the pictures of one kind would be compared with the other kinds only.
const FEWEST: usize = 10;
/// Each picture is compared with every other: more would take longer than all the rest.
const MOST: usize = 10_000;

/// The number of each picture's part. `descriptors` are the bank's.
///
/// # Errors
/// [`ErrorKind::Usage`] if a name does not fit the pattern, or if all pictures show one part.
pub(super) fn parts(by: &GroupBy, pictures: &[PathBuf], descriptors: &Array3<f32>) -> Result<Vec<usize>> {
    let parts = match by {
        GroupBy::Nothing => (0..pictures.len()).collect(),
        GroupBy::Likeness => alike(descriptors),
        GroupBy::Folder => numbered(pictures.iter().map(|p| p.parent().unwrap_or(Path::new("")))),
        GroupBy::Name(pattern) => {
            let names: Vec<_> = pictures.iter().map(|p| stem(p)).collect();
            let mut keys = Vec::with_capacity(names.len());
            for (name, path) in names.iter().zip(pictures) {
                let Some(part) = pattern.part(name) else {
                    let wrong = format!("the name does not fit the pattern \"{pattern}\"");
                    return Err(Error::new(ErrorKind::Usage, wrong).within(path.display()));
                };
                keys.push(part);
            }
            numbered(keys.into_iter())
        }
    };
    if parts.iter().all(|part| *part == parts[0]) {
        let wrong = "all pictures show the same part, and one part does not show how good parts vary: take pictures of at \
                     least 2 parts, better 20 or more, or group the pictures in another way";
        return Err(Error::new(ErrorKind::Usage, wrong));
    }
    Ok(parts)
}

/// The name without its ending. What is not Unicode is replaced.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

fn numbered<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    keys.map(|key| {
        let next = numbers.len();
        *numbers.entry(key).or_insert(next)
    })
    .collect()
}

/// Groups of pictures that are much nearer to each other than to the rest: branches of the single-linkage tree whose stem
/// is at least [`GAP`] times as long as they are high. Of nested ones the largest counts.
fn alike(descriptors: &Array3<f32>) -> Vec<usize> {
    let count = descriptors.len_of(Axis(0));
    let alone: Vec<usize> = (0..count).collect();
    if !(FEWEST..=MOST).contains(&count) {
        return alone;
    }
    let most = (LARGEST * count as f64) as usize;
    let mut links = shortest_links(descriptors);
    links.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Each picture's branch, and for each branch its pictures and its height.
    let mut branch = alone.clone();
    let mut branches: Vec<(Vec<usize>, f32)> = alone.iter().map(|&picture| (vec![picture], 0.0)).collect();
    let mut parts = alone.clone();
    for (length, a, b) in links {
        let ends = [branch[a], branch[b]];
        for end in ends {
            let (pictures, height) = &branches[end];
            if pictures.len() > 1 && pictures.len() <= most && length > GAP * height {
                // Branches come in the order of their height, so a larger one replaces those within it.
                pictures.iter().for_each(|&picture| parts[picture] = pictures[0]);
            }
        }
        let [(mut into, _), (from, _)] = ends.map(|end| std::mem::take(&mut branches[end]));
        into.extend(from);
        into.iter().for_each(|&picture| branch[picture] = ends[0]);
        branches[ends[0]] = (into, length);
    }
    let parts = numbered(parts.into_iter());
    let groups = parts.iter().max().map_or(0, |last| last + 1);
    if groups < FEWEST { alone } else { parts }
}

/// The minimum spanning tree of the pictures (Prim): (distance, picture, picture).
fn shortest_links(descriptors: &Array3<f32>) -> Vec<(f32, usize, usize)> {
    let count = descriptors.len_of(Axis(0));
    let picture = |number: usize| descriptors.index_axis(Axis(0), number);
    let mut links = Vec::with_capacity(count);
    // The pictures outside of the tree, each with its distance from it.
    let mut outside: Vec<(f32, usize, usize)> = (1..count).map(|p| (f32::INFINITY, 0, p)).collect();
    let mut newest = 0;
    while !outside.is_empty() {
        outside.par_iter_mut().with_min_len(32).for_each(|link| {
            let distance = retrieval::distance(picture(newest), picture(link.2));
            if distance < link.0 {
                (link.0, link.1) = (distance, newest);
            }
        });
        // Equal distances: the lower number, so that the result depends on nothing else.
        let next = (0..outside.len())
            .min_by(|&a, &b| outside[a].0.total_cmp(&outside[b].0).then(outside[a].2.cmp(&outside[b].2)))
            .unwrap_or_default();
        let link = outside.swap_remove(next);
        newest = link.2;
        links.push(link);
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_a_whole_and_stars_take_little() {
        let part = |pattern: &str, name: &'static str| pattern.parse::<NamePattern>().unwrap().part(name);
        assert_eq!(part("(*)_Part*", "kos01_Part7"), Some("kos01"));
        assert_eq!(part("(*)_*", "a_b_c"), Some("a"));
        assert_eq!(part("*_(*)_*", "line2_0815_3"), Some("0815"));
        assert_eq!(part("*-(*)", "x-1-2"), Some("1-2"));
        assert_eq!(part("(*)", "alone"), Some("alone"));
        assert_eq!(part("p(*)p", "pp"), Some(""));
        assert_eq!(part("p(*)p", "p"), None);
        assert_eq!(part("(*)_x*", "a_b_x1"), Some("a_b"));
        assert_eq!(part("Teil ä(*)ß*", "Teil äöß1"), Some("ö"));
        assert_eq!(part("(*)_Part*", "overview"), None);
        for wrong in ["", "part", "*", "(*)(*)"] {
            assert!(wrong.parse::<NamePattern>().is_err(), "{wrong}");
        }
        for pattern in ["(*)_Part*", "*_(*)_*", "a*b*(*)", "(*)"] {
            assert_eq!(pattern.parse::<NamePattern>().unwrap().to_string(), pattern);
        }
    }

    /// Descriptors that differ by a number in every value.
    fn descriptors(values: &[f32]) -> Array3<f32> {
        Array3::from_shape_fn((values.len(), retrieval::WINDOWS, 2), |(picture, ..)| values[picture])
    }

    #[test]
    fn repeated_pictures_of_a_part_are_found_in_any_order() {
        // Twelve parts, three pictures of each, shot in turns.
        let values: Vec<f32> = (0..36).map(|i| (i % 12 * 10 + i / 12) as f32).collect();
        let expected: Vec<usize> = (0..36).map(|i| i % 12).collect();
        assert_eq!(alike(&descriptors(&values)), expected);
    }

    #[test]
    fn pictures_that_are_all_alike_are_no_group() {
        let values: Vec<f32> = (0..40).map(|i| 100.0 + (i * 7 % 40) as f32 * 0.01).collect();
        assert_eq!(alike(&descriptors(&values)), (0..40).collect::<Vec<_>>());
        // Nor the ordinary ones beside an odd one.
        let values: Vec<f32> = (0..40).map(|i| if i == 39 { 900.0 } else { i as f32 }).collect();
        assert_eq!(alike(&descriptors(&values)), (0..40).collect::<Vec<_>>());
        assert_eq!(alike(&descriptors(&[5.0; 20])), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn few_kinds_of_parts_are_no_groups() {
        let values: Vec<f32> = (0..40).map(|i| (i % 5 * 100 + i) as f32).collect();
        assert_eq!(alike(&descriptors(&values)), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn one_part_is_told() {
        let pictures = ["a_1.png", "a_2.png"].map(PathBuf::from);
        let by = |pattern: &str| {
            parts(&GroupBy::Name(pattern.parse().unwrap()), &pictures, &descriptors(&[0.0, 1.0]))
        };
        assert_eq!(by("a_(*)").unwrap(), [0, 1]);
        assert!(by("(*)_*").unwrap_err().to_string().contains("the same part"));
        assert!(by("b(*)").unwrap_err().to_string().contains("does not fit the pattern"));
    }
}
