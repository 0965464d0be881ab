//! File names for results.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use crate::files::short_name;

/// A short and unique name for each picture, also on file systems that ignore case. The name is the path
/// below the folder that all share, with `-` between folders and without its extension. A name that is too
/// long ends in a hash.
pub fn distinct_names(images: &[PathBuf]) -> Vec<String> {
    // For an extension, and a number.
    const MORE: usize = 24;
    let shared = images
        .iter()
        .filter_map(|p| p.parent())
        .map(Path::to_path_buf)
        .reduce(|a, b| {
            a.components().zip(b.components()).take_while(|(x, y)| x == y).map(|(x, _)| x).collect()
        })
        .unwrap_or_default();
    let mut taken = HashSet::new();
    images
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&shared).unwrap_or(path).with_extension("");
            let parts: Vec<_> = below
                .components()
                .filter(|c| matches!(c, Component::Normal(_)))
                .map(|c| c.as_os_str().to_string_lossy())
                .collect();
            let name = short_name(&parts.join("-"), MORE);
            let mut unique = name.clone();
            let mut copy = 1;
            while !taken.insert(unique.to_lowercase()) {
                copy += 1;
                unique = format!("{name}-{copy}");
            }
            unique
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_of_one_picture_each() {
        let long = "ü".repeat(126);
        let paths = [
            format!("a/{long}/{long}1.png"),
            format!("a/{long}/{long}2.png"),
            format!("a/{long}{long}.png"),
            "a/b/c.png".into(),
            "a/b-c.jpg".into(),
            "a/B-C.png".into(),
            "a/b-c-2.png".into(),
            "a/b.c.png".into(),
        ];
        let names = distinct_names(&paths.map(PathBuf::from));
        assert!(names.iter().all(|name| name.len() + ".overlay.jpg".len() <= 255), "{names:?}");
        assert!(names[0].starts_with(&long[..50]));
        let all: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(all.len(), names.len(), "{names:?}");
        assert_eq!(names[3..5], ["b-c", "b-c-2"]);
    }
}
