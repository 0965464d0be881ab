//! The maths of trials and the files of the store.

use serde_json::json;

use super::store::{Answer, Event, Settings, Store, picture_name};
use super::trial::{Changes, Scored, Trial, false_rejects, notes};
use super::{Place, Teacher};
use crate::package::RecipeFolder;
use crate::record::Engine;
use crate::state::StateFolder;
use crate::{Color, ErrorKind, Frame};

fn trial(threshold: f32, good: &[(&str, f32)], bad: &[(&str, f32)]) -> Trial {
    let scored = |all: &[(&str, f32)]| {
        all.iter().map(|(picture, score)| Scored { picture: (*picture).into(), score: *score }).collect()
    };
    Trial {
        package: "abc".into(),
        at: "2026-11-28T22:00:00Z".into(),
        quality: "fast".into(),
        images: good.len(),
        parts: good.len(),
        threshold,
        promise: String::new(),
        forecast: json!([]),
        milliseconds: 1.0,
        provider: "cpu".into(),
        good: scored(good),
        bad: scored(bad),
        outliers: Vec::new(),
        advice: Vec::new(),
    }
}

/// Limits by `scipy.stats.binomtest(k, n).proportion_ci(0.95, "exact")`.
#[test]
fn limits_of_false_rejects_are_those_of_clopper_and_pearson() {
    for (above, count, expected) in [
        (0, 0, [0.0, 0.0, 1000.0]),
        (0, 20, [0.0, 0.0, 168.433_471]),
        (1, 20, [50.0, 1.265_089, 248.732_763]),
        (3, 200, [15.0, 3.104_108, 43.208_282]),
        (20, 20, [1000.0, 831.566_529, 1000.0]),
    ] {
        let found = false_rejects(above, count);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{above} of {count}: {found} instead of {expected}");
        }
    }
}

#[test]
fn changes_name_each_picture_whose_verdict_differs() {
    let active = trial(2.0, &[("a", 1.0), ("b", 3.0), ("c", 2.5)], &[("x", 5.0), ("y", 1.0), ("z", 3.0)]);
    let new =
        trial(4.0, &[("a", 5.0), ("b", 1.0), ("d", 1.0)], &[("x", 9.0), ("y", 8.0), ("z", 3.5), ("w", 1.0)]);
    let changes = Changes::of(&new, Some(&active));
    // c was removed, d and w are new.
    assert_eq!(changes.fewer_false_rejects, ["b"]);
    assert_eq!(changes.more_false_rejects, ["a"]);
    assert_eq!(changes.newly_found, ["y"]);
    assert_eq!(changes.newly_missed, ["z"]);
    assert_eq!(changes.missed, ["z", "w"]);
    assert_eq!(changes.of, (3, 4));
    // Without an active package nothing is lost.
    let first = Changes::of(&new, None);
    assert_eq!((first.newly_missed.len(), first.missed.len(), first.more_false_rejects.len()), (0, 2, 1));
}

#[test]
fn alike_events_are_one_note() {
    let event = |who: &str, what: &str| Event { at: "t".into(), who: who.into(), what: what.into() };
    let all = [
        event("line", "good part collected: 1.png"),
        event("line", "good part collected: 2.png"),
        event("10.0.0.7", "good picture removed: 1.png"),
        event("line", "good part collected: 3.png"),
    ];
    let expected = [
        "t line: good part collected: 2.png, and 1 more",
        "t 10.0.0.7: good picture removed: 1.png",
        "t line: good part collected: 3.png",
    ];
    assert_eq!(notes(&all), expected);
}

#[test]
fn a_picture_is_good_or_bad_and_half_a_line_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::new(folder.path().join("teach"), Settings { min_free_megabytes: 0, ..Settings::default() });
    let product = store.product("Deckel Größe 2").unwrap();
    assert_eq!(product.known().unwrap_err().kind(), ErrorKind::Usage);
    product.create("here").unwrap();
    assert_eq!(store.products().unwrap(), ["Deckel Größe 2"]);
    // Names that look alike as folders are different products.
    assert!(store.product("deckel-gr--e-2").unwrap().settings().unwrap().is_none());

    let gray = Frame::new(3, 2, Color::Rgb, [7; 18].into()).unwrap();
    let name = picture_name(std::time::SystemTime::UNIX_EPOCH, 5);
    assert_eq!(name, "19700101-000000.000-000005.png");
    product.keep(Answer::Good, &name, &gray).unwrap();
    let stored = Frame::open(product.picture(Answer::Good, &name).unwrap()).unwrap();
    assert_eq!(stored.color(), Color::Gray, "a gray camera that is read in color");
    assert!(!product.keep(Answer::Good, "again.png", &gray).unwrap(), "the same picture twice");
    assert_eq!(product.pictures(Answer::Good).unwrap(), [name.as_str()]);
    product.keep(Answer::Bad, &name, &gray).unwrap();
    assert_eq!(product.pictures(Answer::Good).unwrap(), [""; 0]);
    assert_eq!(product.pictures(Answer::Bad).unwrap(), [name.as_str()]);
    // A kill between the two steps leaves both; then it counts as bad.
    std::fs::copy(product.file("bad").join(&name), product.file("good").join(&name)).unwrap();
    assert_eq!(product.pictures(Answer::Good).unwrap(), [""; 0]);

    let events = product.file("events.jsonl");
    let mut text = std::fs::read_to_string(&events).unwrap();
    text.push_str("{\"at\":\"2026-11-28T2");
    std::fs::write(&events, text).unwrap();
    product.note("here", "after a power cut").unwrap();
    let what: Vec<String> = product.events().unwrap().into_iter().map(|event| event.what).collect();
    assert_eq!(what, ["product created", "after a power cut"]);
}

#[test]
fn a_full_disk_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (settings, why) in [
        (Settings { min_free_megabytes: 1 << 40, ..Settings::default() }, "teach.min_free_megabytes"),
        (Settings { max_megabytes: 0, min_free_megabytes: 0, ..Settings::default() }, "teach.max_megabytes"),
    ] {
        let store = Store::new(folder.path().join(why), settings);
        let product = store.product("disc").unwrap();
        let frame = Frame::new(2, 2, Color::Gray, [0, 9, 9, 0].into()).unwrap();
        let error =
            product.create("here").and_then(|_| product.keep(Answer::Good, "1.png", &frame)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.chain().contains(why), "{}", error.chain());
        assert_eq!(product.pictures(Answer::Good).unwrap(), [""; 0]);
    }
}

/// The line still tells of the recipe before while its parts are on their way.
#[test]
fn a_package_goes_to_the_place_of_its_own_product_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weakrest.toml");
    let teacher = Teacher::new(Settings::default(), StateFolder::locate(None, &config));
    assert!(teacher.target("disc").unwrap_err().chain().contains("is starting"));
    let package = folder.path().join("recipes/1-ring.weakrest");
    let engine = Engine {
        product: "ring".into(),
        package: "abc".into(),
        provider: "cpu".into(),
        threshold: 1.0,
        recipe: 1,
    };
    let first = folder.path().join("disc.weakrest");
    std::fs::create_dir(&first).unwrap();
    let recipes = Some((RecipeFolder(folder.path().join("recipes")), first));
    teacher.set_place(Place { package: package.clone(), engine: Some(engine), recipes, ..Place::default() });
    let target = |product| teacher.target(product).map(|t| (t.package, t.recipe, t.is_new)).unwrap();
    assert_eq!(target("ring"), (package, 1, false));
    assert_ne!(target("disc").0, folder.path().join("recipes/1-ring.weakrest"));
    let _installing = teacher.installing().unwrap();
    assert!(teacher.installing().unwrap_err().chain().contains("is being activated"));
}
