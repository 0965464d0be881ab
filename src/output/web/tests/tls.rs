//! The encrypted page, asked by a TLS client that believes one certificate only.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{connect, request, send};
use super::scene::{Line, on_free_port, publish, scratched};
use crate::output::web::{Settings, Site, Tls, WebPage};
use crate::output::{Control, Output};

/// A page with a certificate that it makes in a folder.
fn self_signed(state: &Path) -> (WebPage, Arc<Line>) {
    started(&Settings { tls: Tls::SelfSigned, ..on_free_port() }, state)
}

fn started(settings: &Settings, state: &Path) -> (WebPage, Arc<Line>) {
    let line = Line::new(true);
    let site = Site { state: Some(state.to_owned()), ..Site::default() };
    (WebPage::within(settings, Arc::clone(&line) as Arc<dyn Control>, site).unwrap(), line)
}

/// A request to whoever proves to be `name` with this certificate. Gives the whole answer.
fn ask(address: SocketAddr, certificate: &Path, name: &str, text: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(&std::fs::read(certificate).unwrap()).unwrap();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, connect(address));
    let head = format!("{text} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n");
    stream.write_all(format!("{head}X-Weakrest: 1\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // The connection may end without a farewell after the answer.
    match stream.read_to_end(&mut answer) {
        Err(e) if answer.is_empty() => Err(e),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

#[test]
fn a_page_with_its_own_certificate_is_encrypted_and_plain_requests_are_sent_there() {
    let folder = tempfile::tempdir().unwrap();
    let (mut page, line) = self_signed(folder.path());
    publish(&mut page, &line, &scratched(1));
    let address = page.address();
    let [certificate, key] = ["web-certificate.pem", "web-key.pem"].map(|name| folder.path().join(name));
    for name in ["localhost", "127.0.0.1", "::1"] {
        let answer = ask(address, &certificate, name, "GET /api/status").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"Operational\""), "{answer}");
    }
    assert!(ask(address, &certificate, "evil.example", "GET /").is_err());
    assert!(ask(address, &certificate, "localhost", "POST /api/halt").unwrap().contains("\"Halted\""));
    // A picture is more than one record of TLS.
    let picture = ask(address, &certificate, "localhost", "GET /api/live.jpg?plain=1").unwrap();
    assert!(picture.len() > 20_000 && picture.contains("image/jpeg"), "{}", picture.len());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let sent = request(address, "GET", "/api/parts?after=1", "");
    assert_eq!(sent.code, 308);
    assert_eq!(sent.header("location"), Some(format!("https://{address}/api/parts?after=1").as_str()));
    let refused = request(address, "POST", "/api/resume", "X-Weakrest: 1\r\n");
    assert_eq!(
        (refused.code, refused.error()),
        (403, format!("this page is encrypted: use https://{address} instead"))
    );
    assert_eq!(send(address, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").code, 403);
    assert_eq!(*line.asked.lock().unwrap(), ["halt"]);

    // It is made once.
    let made = std::fs::read(&certificate).unwrap();
    drop(page);
    let (again, _line) = self_signed(folder.path());
    assert_eq!(std::fs::read(&certificate).unwrap(), made);
    assert!(ask(again.address(), &certificate, "localhost", "GET /healthz").is_ok());
}

#[test]
fn half_handshakes_are_cut_off_and_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (page, _line) = self_signed(folder.path());
    let address = page.address();
    let certificate = folder.path().join("web-certificate.pem");
    let mut open: Vec<TcpStream> = (0..60)
        .map(|i| {
            let mut stream = connect(address);
            // The beginning of a handshake, and none at all.
            stream
                .write_all(if i % 2 == 0 { b"\x16\x03\x01\x02\x00\x01\x00" } else { b"GET /api/sta" })
                .unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    while !open.is_empty() {
        let asked = Instant::now();
        assert!(ask(address, &certificate, "localhost", "GET /healthz").unwrap().contains("200 OK"));
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        open.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_micros(100))).unwrap();
            // A goodbye may come before the end.
            !matches!(stream.read(&mut [0; 64]), Ok(0)) && stream.take_error().is_ok_and(|e| e.is_none())
        });
        assert!(start.elapsed() < Duration::from_secs(15), "{} are open yet", open.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
}

/// Writes a certificate with its key that ends in a year.
fn write(folder: &Path, year: i32) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("page.pem"), folder.join("page.key"));
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 3, 9);
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn a_certificate_is_replaced_while_the_page_runs_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write(folder.path(), 2090);
    let settings =
        Settings { certificate: Some(certificate.clone()), key: Some(key.clone()), ..on_free_port() };
    let (mut page, line) = started(&settings, folder.path());
    let address = page.address();
    let mut look = || {
        (0..2).for_each(|_| page.tick(SystemTime::now(), line.status()).unwrap());
        line.status().problems().get("certificate").map(|problem| problem.text.clone())
    };
    let ask = |certificate: &Path| ask(address, certificate, "localhost", "GET /healthz");
    assert!(ask(&certificate).is_ok());
    assert_eq!(look(), None);
    let old = folder.path().join("old.pem");
    std::fs::copy(&certificate, &old).unwrap();
    write(folder.path(), 2091);
    assert!(ask(&old).is_ok(), "not before it was looked at");
    assert_eq!(look(), None);
    assert!(ask(&certificate).is_ok() && ask(&old).is_err());
    let good = folder.path().join("good.pem");
    std::fs::copy(&certificate, &good).unwrap();
    // A key without its certificate, no certificate at all, none to read.
    std::fs::copy(&old, &certificate).unwrap();
    let told = look().unwrap();
    assert!(told.contains("web.key: is not the key of web.certificate"), "{told}");
    assert!(told.ends_with("the certificate of before stays in use"), "{told}");
    std::fs::write(&certificate, "nothing").unwrap();
    assert!(look().unwrap().contains("holds no certificate (PEM)"));
    std::fs::remove_file(&certificate).unwrap();
    assert!(look().unwrap().contains("web.certificate: cannot read"));
    assert!(ask(&good).is_ok());
    // What has ended still encrypts.
    write(folder.path(), 2020);
    let told = look().unwrap();
    assert_eq!(told, "it ended on 2020-03-09; browsers refuse the page until it is replaced");
    write(folder.path(), 2090);
    assert_eq!(look(), None);

    // The page is not served plainly where it should be encrypted.
    std::fs::write(&key, "nothing").unwrap();
    let error = WebPage::start(&settings, Line::new(true)).err().unwrap();
    assert!(error.chain().starts_with("web.key: holds no private key"), "{}", error.chain());
}

#[test]
fn cookies_of_an_encrypted_page_are_for_encrypted_connections() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    crate::access::accounts::add(&path, "anna", crate::access::Role::Operate, "correct horse").unwrap();
    let settings = Settings { tls: Tls::SelfSigned, accounts_file: Some(path), ..on_free_port() };
    let (page, _line) = started(&settings, folder.path());
    let certificate = folder.path().join("web-certificate.pem");
    let answer = ask(page.address(), &certificate, "localhost", "DELETE /api/session").unwrap();
    assert!(answer.contains("; HttpOnly; SameSite=Strict; Secure; Max-Age=0"), "{answer}");
    // Nor is a password taken from a connection that everybody could read.
    assert_eq!(request(page.address(), "POST", "/api/session", "X-Weakrest: 1\r\n").code, 403);
}

#[test]
fn a_browser_shows_the_encrypted_page() {
    use super::browser::{browser, dump, text_of};
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut page, line) = self_signed(folder.path());
    publish(&mut page, &line, &scratched(1));
    let output = dump(&browser, &format!("https://{}/", page.address()), folder.path());
    let dom = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text_of(&dom, "state"), "Operational");
    assert_eq!(text_of(&dom, "caption"), "part 1");
}
