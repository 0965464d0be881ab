//! Recipes: packages with a number each, so that a person or a controller can choose one.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;
use utoipa::ToSchema;

use super::{MANIFEST, Manifest};
use crate::error::{Error, ErrorKind, Result};

/// A folder of packages with the names `NUMBER-NAME.weakrest`, such as `7-bottle.weakrest`. Numbers go from 1 to
/// 65534. Recipe 0 is always `inspection.package`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecipeFolder(pub PathBuf);

/// The numbers of recipes in the folder.
pub(crate) const NUMBERS: RangeInclusive<u16> = 1..=65534;

/// A package that can be chosen by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Recipe {
    /// 1 to 65534; 0 for `inspection.package`.
    pub number: u16,
    /// The rest of its file name.
    pub name: String,
    /// The package.
    #[serde(skip)]
    pub path: PathBuf,
}

impl Recipe {
    /// The product that its package is for. `None` if it cannot be read.
    pub(crate) fn product(&self) -> Option<String> {
        product_of(&self.path)
    }
}

/// The product that a package is for. Nothing else of the package is checked.
pub(crate) fn product_of(package: &Path) -> Option<String> {
    let text = std::fs::read_to_string(package.join(MANIFEST)).ok()?;
    Some(Manifest::parse(&text).ok()?.product)
}

impl RecipeFolder {
    /// The first number that none of these recipes has, and the path of a package with it for this product. `None` if
    /// every number is taken.
    pub(crate) fn free(&self, recipes: &[Recipe], product: &str) -> Option<(u16, PathBuf)> {
        let is_free = |number: &u16| recipes.iter().all(|recipe| recipe.number != *number);
        let number = NUMBERS.into_iter().find(is_free)?;
        let plain = |c: char| if c.is_alphanumeric() || " ._-".contains(c) { c } else { '-' };
        let name: String = product.chars().take(60).map(plain).collect();
        Some((number, self.0.join(format!("{number}-{name}.weakrest"))))
    }

    /// The recipes, in the order of their numbers. What has another name is none, and a missing folder has none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Recipe>> {
        let entries = match std::fs::read_dir(&self.0) {
            // The first recipe makes the folder.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries,
        };
        let entries = entries.map_err(|e| Error::io("read", &self.0, e).with_key("recipes.folder"))?;
        let mut recipes = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io("read", &self.0, e))?.path();
            recipes.extend(recipe(&path));
        }
        recipes.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
        Ok(recipes)
    }

    /// The recipe with a number.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the folder if none has it, or two have it; as [`RecipeFolder::list`].
    pub(crate) fn find(&self, number: u16) -> Result<Recipe> {
        let recipes = self.list()?;
        let mut found = recipes.iter().filter(|recipe| recipe.number == number);
        let refuse = |what: String| {
            Err(Error::new(ErrorKind::Usage, what).within(self.0.display()).with_key("recipes.folder"))
        };
        match (found.next(), found.next()) {
            (Some(recipe), None) => Ok(recipe.clone()),
            (Some(one), Some(other)) => refuse(format!(
                "{} and {} both have the number {number}; rename one",
                file_name(&one.path),
                file_name(&other.path)
            )),
            (None, _) => {
                let names: Vec<String> = recipes.iter().map(|recipe| file_name(&recipe.path)).collect();
                let names = if names.is_empty() { "it has none".into() } else { names.join(", ") };
                refuse(format!(
                    "no package has the number {number}, as {number}-NAME.weakrest would; {names}"
                ))
            }
        }
    }
}

/// A recipe, if the path is named as one. Copies that an installation keeps beside a package are none.
fn recipe(path: &Path) -> Option<Recipe> {
    let (number, name) = path.file_name()?.to_str()?.strip_suffix(".weakrest")?.split_once('-')?;
    if !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = number.parse().ok().filter(|number| NUMBERS.contains(number))?;
    Some(Recipe { number, name: name.to_owned(), path: path.to_owned() })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> (tempfile::TempDir, RecipeFolder) {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| std::fs::create_dir(folder.path().join(name)).unwrap());
        let recipes = RecipeFolder(folder.path().to_owned());
        (folder, recipes)
    }

    #[test]
    fn packages_with_a_number_are_recipes_and_nothing_else_is() {
        let names = ["12-can.weakrest", "3-bottle 0.5 l.weakrest", "65534-last-one.weakrest"];
        let others = ["0-zero.weakrest", "65535-too-large.weakrest", "70000-a.weakrest", "+4-a.weakrest"];
        let more =
            ["bottle.weakrest", "-3-a.weakrest", "5-a.weakrest.previous", ".6-a.weakrest.installed", "7-a"];
        let (_folder, settings) = folder(&[&names[..], &others, &more].concat());
        let list = settings.list().unwrap();
        let list: Vec<_> = list.iter().map(|recipe| (recipe.number, recipe.name.as_str())).collect();
        assert_eq!(list, [(3, "bottle 0.5 l"), (12, "can"), (65534, "last-one")]);
        assert!(settings.find(12).unwrap().path.ends_with("12-can.weakrest"));
    }

    #[test]
    fn a_new_recipe_gets_the_first_free_number_and_its_products_name() {
        let (_folder, settings) = folder(&["1-can.weakrest", "2-jar.weakrest", "4-lid.weakrest"]);
        let free = |product| settings.free(&settings.list().unwrap(), product).unwrap();
        let (number, path) = free("bottle 0.5 l / green");
        assert_eq!((number, file_name(&path).as_str()), (3, "3-bottle 0.5 l - green.weakrest"));
        std::fs::create_dir(&path).unwrap();
        assert_eq!(settings.find(3).unwrap().path, path);
        assert_eq!(free("../x").1.parent(), Some(&*settings.0));
    }

    #[test]
    fn a_number_that_none_or_two_have_is_told_with_those_that_are_there() {
        let (_folder, settings) = folder(&["3-bottle.weakrest", "4-can.weakrest", "04-jar.weakrest"]);
        let told = |number| settings.find(number).unwrap_err().chain();
        assert!(told(5).contains("no package has the number 5"), "{}", told(5));
        assert!(told(5).contains("3-bottle.weakrest"), "{}", told(5));
        assert!(
            told(4).contains("04-jar.weakrest") && told(4).contains("both have the number 4"),
            "{}",
            told(4)
        );
        let (_folder, none) = folder(&[]);
        assert!(none.find(1).unwrap_err().chain().contains("it has none"));
        let gone = RecipeFolder("/nowhere/at/all".into());
        assert!(gone.list().unwrap().is_empty());
        assert!(gone.find(1).unwrap_err().chain().contains("recipes.folder"));
    }
}
