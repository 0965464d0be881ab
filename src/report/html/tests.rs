//! Whole pages, as they are written.

use std::path::Path;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use image::Rgb;

use super::*;
use crate::ErrorKind;
use crate::inspector::AnomalyMap;

fn inspection(score: f32, threshold: f32) -> Inspection {
    let regions = match score > threshold {
        true => vec![Region { x: 12, y: 40, width: 33, height: 20, peak: 2.0 * threshold, area: 500 }],
        false => vec![],
    };
    Inspection {
        verdict: if score > threshold { Verdict::Reject } else { Verdict::Pass },
        score,
        threshold,
        regions,
        map: AnomalyMap::default(),
        times: StageTimes {
            features: Duration::from_micros(12_340),
            residuals: Duration::from_micros(4_560),
            classify: Duration::from_micros(780),
        },
    }
}

fn labeled<'a>(entry: Entry<'a>, truth: Truth<'a>) -> Entry<'a> {
    Entry { truth: Some(truth), ..entry }
}

/// A page of the given entries.
fn page(report: &Report, entries: &[Entry]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let mut writer = ReportWriter::create(&path).unwrap();
    for entry in entries {
        writer.add(entry).unwrap();
    }
    writer.finish(report).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    std::fs::read_to_string(&path).unwrap()
}

/// Checks that every tag is closed in order and every attribute is quoted; script and style are opaque.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "stray > in {:?}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("an unclosed tag");
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "a tag within a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an unclosed quote: {tag}");
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            let name = tag.split_whitespace().next().unwrap();
            if name == "script" || name == "style" {
                let close = format!("</{name}>");
                rest = &rest[rest.find(&close).unwrap() + close.len()..];
            } else {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

const HOSTILE: &str = "<script>alert('1')</script>\"&\u{1b}.png";

#[test]
fn a_full_page_is_well_formed_and_needs_nothing_else() {
    let picture = RgbImage::from_fn(900, 300, |x, y| Rgb([x as u8, y as u8, 90]));
    let (pass, reject) = (inspection(0.5, 2.0), inspection(5.0, 2.0));
    let fault = Verdict::Fault("the file is <empty>".into());
    let mut entries = vec![
        Entry::inspected("good/a.png", &pass),
        Entry::inspected("crack/b.png", &reject),
        Entry::not_inspected("c.png", &fault),
    ];
    entries[1].original = Some(&picture);
    entries[1].overlay = Some(&picture);
    entries[1].truth = Some(Truth::Defective("crack"));
    let page = page(
        &Report {
            title: "Tiles & more".into(),
            note: Some("first\nsecond".into()),
            facts: vec![("Package".into(), "tiles-3".into())],
            tables: vec![Table {
                title: "Metrics".into(),
                columns: vec!["Defect".into(), "AUROC".into()],
                rows: vec![vec!["crack".into(), "0.98".into()]],
            }],
            order: Order::AsAdded,
        },
        &entries,
    );
    assert_well_formed(&page);
    for text in [
        "Tiles &amp; more",
        "first\nsecond",
        "tiles-3",
        "Metrics",
        "AUROC",
        "0.98",
        "good/a.png",
        "crack/b.png",
        "c.png",
        "the file is &lt;empty&gt;",
        "labeled defective: <bdi>crack</bdi>",
        "33 × 20 px at x 12, y 40, peak 2.00×",
        "score 5.00 · threshold 2.00",
        "features 12.3 · residuals 4.6 · classify 0.8 ms",
        r#"width="480" height="160""#,
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 2);
    for foreign in ["http:", "https:", "://", "src=\"/", "<link", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign:?} in the page");
    }
}

#[test]
fn embedded_pictures_are_the_pictures() {
    let picture = RgbImage::from_fn(40, 30, |x, _| if x < 20 { Rgb([250; 3]) } else { Rgb([5; 3]) });
    let inspected = inspection(1.0, 2.0);
    let mut entry = Entry::inspected("a", &inspected);
    entry.original = Some(&picture);
    let empty = RgbImage::new(0, 0);
    entry.overlay = Some(&empty);
    let page = page(&Report::default(), &[entry]);
    let (_, data) = page.split_once("base64,").unwrap();
    let (data, _) = data.split_once('"').unwrap();
    let jpeg = base64::Engine::decode(&STANDARD, data).unwrap();
    let back = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap().into_rgb8();
    assert_eq!(back.dimensions(), (40, 30));
    assert!(back.get_pixel(5, 5)[0] > 240 && back.get_pixel(35, 25)[0] < 15);
    assert_eq!(page.matches("<img").count(), 1, "a picture without pixels is not shown");
}

#[test]
fn text_is_escaped_wherever_it_stands() {
    let picture = RgbImage::new(4, 4);
    let fault = Verdict::Fault(HOSTILE.into());
    let mut entry = Entry::not_inspected(HOSTILE, &fault);
    entry.original = Some(&picture);
    entry.truth = Some(Truth::Defective(HOSTILE));
    let text = || HOSTILE.to_string();
    let page = page(
        &Report {
            title: text(),
            note: Some(text()),
            facts: vec![(text(), text())],
            tables: vec![Table { title: text(), columns: vec![text()], rows: vec![vec![text()]] }],
            order: Order::AsAdded,
        },
        &[entry],
    );
    assert_well_formed(&page);
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(!page.contains("alert('1')") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}.png"));
}

#[test]
fn every_entry_is_there_in_the_order_asked_for() {
    let scores = [0.4, 3.0, 0.9, 8.0, 1.2, 0.2];
    let inspections: Vec<_> = scores.iter().map(|&s| inspection(s, 1.0)).collect();
    let fault = Verdict::Fault("no picture".into());
    let names: Vec<String> = (0..7).map(|i| format!("part-{i}.")).collect();
    let mut entries: Vec<Entry> =
        inspections.iter().zip(&names).map(|(i, name)| Entry::inspected(name, i)).collect();
    entries.push(Entry::not_inspected(&names[6], &fault));
    for i in [0, 2, 3] {
        entries[i].truth = Some(Truth::Defective("crack"));
    }
    for i in [1, 4, 5, 6] {
        entries[i].truth = Some(Truth::Good);
    }
    let order = |order| -> Vec<usize> {
        let page = page(&Report { order, ..Default::default() }, &entries);
        assert_well_formed(&page);
        let mut found: Vec<(usize, usize)> =
            names.iter().enumerate().map(|(i, n)| (page.find(n.as_str()).unwrap(), i)).collect();
        found.sort();
        found.into_iter().map(|(_, i)| i).collect()
    };
    assert_eq!(order(Order::AsAdded), [0, 1, 2, 3, 4, 5, 6]);
    // Missed 0.4 and 0.9; false rejects 3.0 and 1.2; the fault; right: 0.2 is nearer to 1 than 8.0.
    assert_eq!(order(Order::WorstFirst), [0, 2, 1, 4, 6, 5, 3]);
}

#[test]
fn mistakes_come_before_the_figures_and_settings_last() {
    let (low, high) = (inspection(0.5, 1.0), inspection(2.0, 1.0));
    let page = page(
        &Report {
            facts: vec![("Hash".into(), "5f1d".into())],
            tables: vec![Table { title: "Results".into(), ..Default::default() }],
            order: Order::WorstFirst,
            ..Default::default()
        },
        &[
            labeled(Entry::inspected("right.png", &high), Truth::Defective("dent")),
            labeled(Entry::inspected("false.png", &high), Truth::Good),
            labeled(Entry::inspected("missed.png", &low), Truth::Defective("dent")),
        ],
    );
    assert_well_formed(&page);
    let texts = [
        "Missed defects</h2>",
        r#"<article id="picture-3""#,
        "False rejects</h2>",
        r#"<article id="picture-2""#,
        "Results</h2>",
        "Scores</h2>",
        r##"<a href="#picture-3">"##,
        "Other pictures</h2>",
        r#"<article id="picture-1""#,
        "<details>",
        "5f1d",
    ];
    let places = texts.map(|text| page.find(text).unwrap_or_else(|| panic!("{text:?} is missing")));
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn counts_and_contradictions_are_spelled_out() {
    let (low, high) = (inspection(0.5, 1.0), inspection(2.0, 1.0));
    let fault = Verdict::Fault("late".into());
    let page = page(
        &Report::default(),
        &[
            labeled(Entry::inspected("a", &low), Truth::Defective("dent")),
            labeled(Entry::inspected("b", &high), Truth::Defective("dent")),
            labeled(Entry::inspected("c", &high), Truth::Good),
            labeled(Entry::not_inspected("d", &fault), Truth::Good),
        ],
    );
    for text in [
        "<b>4</b><span>pictures</span>",
        "<b>1</b><span>pass</span>",
        "<b>2</b><span>reject</span>",
        "<b>1</b><span>fault</span>",
        "<b>1</b><span>missed defect, of 2 defective</span>",
        "<b>1</b><span>false reject, of 2 good</span>",
        r#"<span class="badge wrong">missed defect</span>"#,
        r#"<span class="badge wrong">false reject</span>"#,
        ">wrong 2</button>",
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
    assert_eq!(page.matches("badge wrong\"").count(), 2, "a fault claims nothing and is not wrong");
}

#[test]
fn numbers_that_are_none_do_not_reach_the_page() {
    for (score, threshold) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0), (1.0, 0.0), (0.0, 0.0)]
    {
        let inspected = inspection(score, threshold);
        let page = page(&Report::default(), &[Entry::inspected("a", &inspected)]);
        assert_well_formed(&page);
        assert!(!page.contains("NaN") && !page.contains("inf"), "{score} / {threshold}");
    }
}

#[test]
fn a_report_without_entries_is_a_page_too() {
    assert_well_formed(&page(&Report { title: "Nothing".into(), ..Default::default() }, &[]));
}

#[test]
fn an_unfinished_report_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, "the last one").unwrap();
    let mut writer = ReportWriter::create(&path).unwrap();
    writer.add(&Entry::inspected("a", &inspection(1.0, 2.0))).unwrap();
    drop(writer);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the last one");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    ReportWriter::create(&path).unwrap().finish(&Report::default()).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_report_that_cannot_be_written_fails_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere").join("report.html");
    for path in [folder.path().to_path_buf(), missing] {
        let error = ReportWriter::create(&path).err().expect("an error");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_report_may_be_read_as_any_other_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (report, plain) = (folder.path().join("report.html"), folder.path().join("plain"));
    ReportWriter::create(&report).unwrap().finish(&Report::default()).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(&report), mode(&plain));
}
