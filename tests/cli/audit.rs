//! Who changed what stays provable, through kills and forgeries.

use crate::common::*;
use crate::run::{Service, config, http, parts};

#[test]
fn changes_are_on_record_through_a_kill_and_a_torn_line_and_forgeries_are_found() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = config(&folder, &package, &format!("[web]\nlisten = \"{address}\"\n"));
    let file = config.with_file_name("weakrest.toml.state").join("audit.jsonl");
    let service = Service::start(&config);
    service.wait_for("ready");
    assert_eq!(http(&address, "POST /api/halt").0, 200);
    service.signal("KILL");
    drop(service);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 2 && text.contains("\"what\":\"halt\""), "{text}");
    assert!(text.contains("\"who\":\"local\",\"from\":\"127.0.0.1\""), "{text}");
    // As if the power had been cut while a third was written.
    std::fs::write(&file, format!("{text}{{\"n\":3,\"prev")).unwrap();
    let torn = weakrest!("audit", "verify", &file).exits(0);
    torn.prints(&[
        "its last line is not whole",
        "2 lines are as they were written; the last is 2 with hash ",
    ]);

    let service = Service::start(&config);
    service.wait_for("its last line was torn by a power cut");
    service.wait_for("ready");
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    let listed = http(&address, "GET /api/audit?after=2").1;
    assert!(
        listed.starts_with("{\"entries\":[{\"n\":3,") && listed.contains("\"what\":\"torn line\""),
        "{listed}"
    );
    assert_eq!(service.terminate().0, Some(0));
    let ran = weakrest!("audit", "verify", &file).exits(0);
    ran.prints(&[
        "audit.jsonl:3: torn by a power cut, as the next line says",
        "5 lines are as they were written",
    ]);

    weakrest!("check", "--config", &config).exits(0).prints(&[
        &format!("web page       http://{address}/, everyone may look"),
        "certificate    none",
        "changes        by everybody on this machine",
        "audit log      5 lines are as they were written",
    ]);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"what\":\"halt\"", "\"what\":\"hold\"")).unwrap();
    weakrest!("audit", "verify", &file)
        .exits(3)
        .says(&["audit.jsonl: line 2 was changed: its hash is wrong"]);
    weakrest!("check", "--config", &config).exits(3).says(&["audit.jsonl: line 2 was changed"]);
}
