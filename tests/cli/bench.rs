//! `weakrest bench` as a user runs it.

use crate::common::*;

#[test]
fn stages_are_timed() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 50, 3);
    let ran = weakrest!("bench", ready_package(), "--images", good, "--frames", "7", "--warmup", "1")
        .exits(0)
        .prints(&["7 frames at 64 px", "all threads", "bank of 1344 tokens", "median ms", "95 % ms"]);
    assert_eq!(ran.err, "");
    let stages: Vec<&str> = ran.out.lines().skip(2).filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(stages, ["features", "residuals", "classify", "total"]);

    let ran =
        weakrest!("bench", ready_package(), "--images", good, "--frames", "5", "--threads", "1", "--json");
    let timed = ran.exits(0).json();
    assert_eq!(timed["frames"], 5);
    for stage in ["features", "residuals", "classify", "total"] {
        let times = &timed["milliseconds"][stage];
        assert!(times["median"].as_f64().unwrap() > 0.0, "{timed}");
        assert!(times["p95"].as_f64() >= times["median"].as_f64(), "{timed}");
    }
}

#[test]
fn searches_can_be_written_for_other_programs() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 50, 2);
    let file = folder.path("searches.safetensors");
    let searches = |k: &str| {
        weakrest!("bench", ready_package(), "--images", good, "--dump", file, "-k", k)
            .exits(0)
            .prints(&["2 searches written to", "searches.safetensors"]);
        let bytes = std::fs::read(&file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
        (shape("queries.001"), shape("candidates.001"), tensors.len())
    };
    let (queries, candidates, count) = searches("2");
    assert_eq!((count, queries[1]), (4, candidates[1]));
    let (same, more, _) = searches("4");
    assert_eq!(same, queries);
    assert_eq!(more[0], 2 * candidates[0]);
    let nowhere = folder.path("missing/searches.safetensors");
    weakrest!("bench", ready_package(), "--images", good, "--dump", nowhere).exits(3).says(&["missing"]);
    weakrest!("bench", ready_package(), "--images", good, "-k", "0").exits(2).says(&["--similar"]);
}

#[test]
fn what_cannot_be_timed_is_told() {
    let folder = Folder::new();
    let empty = folder.folder("empty");
    let small = folder.picture("small/00.png", &part_of_size(0, 48, 40));
    let bad = folder.file("bad/00.png", b"");
    let bench = |images: &std::path::Path| weakrest!("bench", ready_package(), "--images", images);
    bench(&empty).exits(2).says(&["there are no pictures in", "empty"]);
    bench(&folder.path("missing")).exits(2).says(&["there is no folder", "missing"]);
    bench(bad.parent().unwrap()).exits(3).says(&["bad/00.png: the file is empty"]);
    bench(small.parent().unwrap()).exits(3).says(&["small/00.png: the picture is 48×40 pixels"]);
    for (option, value) in
        [("--frames", "0"), ("--frames", "4294967295"), ("--frames", "-1"), ("--warmup", "1000001")]
    {
        weakrest!("bench", ready_package(), "--images", empty, option, value).exits(2).says(&[option, value]);
    }
}
