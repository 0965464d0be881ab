//! The examples that show how to add a camera and an output.

use weakrest::Verdict;

use crate::common::*;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/own_camera.rs"]
mod own_camera;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/own_output.rs"]
mod own_output;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/simulated_line.rs"]
mod simulated_line;

#[test]
fn a_camera_of_ones_own_shows_parts_to_the_pipeline() {
    let folder = Folder::new();
    folder.picture("line/0.png", &part(100));
    folder.picture("line/1.png", &dented_part(200));
    folder.picture("line/2.png", &part(101));
    let verdicts = own_camera::inspect(ready_package(), &folder.path("line"), 3).unwrap();
    assert_eq!(verdicts, [Verdict::Pass, Verdict::Reject, Verdict::Pass]);
}

#[test]
fn a_simulated_line_rejects_every_third_part_at_the_gate() {
    let (verdicts, edges) = simulated_line::run().unwrap();
    let rejected: Vec<usize> = (1..=9).filter(|part| verdicts[part - 1] == Verdict::Reject).collect();
    assert_eq!((verdicts.len(), rejected), (9, vec![3, 6, 9]));
    let begins: Vec<_> = edges.iter().filter(|edge| edge.active).map(|edge| edge.at).collect();
    assert_eq!(begins.len(), 3);
    for pair in begins.windows(2) {
        assert_eq!((pair[1] - pair[0]).as_millis(), 300);
    }
}

#[test]
fn an_output_of_ones_own_gets_every_part() {
    let folder = Folder::new();
    folder.picture("dented.png", &dented_part(200));
    let table = folder.path("table.csv");
    own_output::record(ready_package(), &folder.path("dented.png"), &table, 5).unwrap();
    let table = std::fs::read_to_string(table).unwrap();
    let parts: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(parts.len() >= 5, "{table}");
    for (number, line) in parts.iter().take(5).enumerate() {
        assert!(line.starts_with(&format!("{},reject,", number + 1)), "{table}");
    }
}
