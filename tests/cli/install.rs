//! Installing packages: from folders and servers, who may have made them, and what becomes of everything that goes wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use minisign::KeyPair;

use crate::common::*;

/// Someone who signs packages.
pub struct Signer(KeyPair);

impl Signer {
    pub fn new() -> Self {
        Signer(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    /// The public key as it is written in a configuration.
    pub fn key(&self) -> String {
        self.0.pk.to_base64()
    }

    fn signature(&self, bytes: &[u8], comment: &str) -> String {
        minisign::sign(Some(&self.0.pk), &self.0.sk, bytes, Some(comment), None).unwrap().to_string()
    }

    /// Signs a package at a time in seconds, as minisign does.
    pub fn sign(&self, package: &Path, time: u64) {
        let manifest = std::fs::read(package.join("package.toml")).unwrap();
        let comment = format!("timestamp:{time}\tfile:package.toml\thashed");
        std::fs::write(package.join("package.toml.minisig"), self.signature(&manifest, &comment)).unwrap();
    }
}

impl Folder {
    /// A copy of the ready-made package that differs by who made it, signed.
    pub fn signed_package(&self, name: &str, signer: &Signer, time: u64) -> PathBuf {
        let package = self.package(name);
        forge(&package, |text| text.replacen("made_by = \"", &format!("made_by = \"{name} "), 1));
        signer.sign(&package, time);
        package
    }
}

/// What lies where packages were installed twice.
const INSTALLED: [&str; 3] = [".disc.weakrest.installed", "disc.weakrest", "disc.weakrest.previous"];

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

fn hash(package: &Path) -> String {
    sha256(&std::fs::read(package.join("package.toml")).unwrap())
}

/// A certificate and its key for a name, vouched for by an authority of its own: PEM files.
pub struct Certificate {
    pub authority: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn new(folder: &Folder, name: &str) -> Self {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // OpenSSL takes a certificate with its issuer's name for the issuer's.
        leaf.distinguished_name.push(DnType::CommonName, name);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let file = |what: &str, text: String| folder.file(format!("tls-{name}/{what}.pem"), text.as_bytes());
        Certificate {
            authority: file("authority", authority.pem()),
            chain: file("chain", leaf.pem()),
            key: file("key", key.serialize_pem()),
        }
    }
}

/// Python's web server with TLS. Below `/away/` it sends whoever asks to the same place without TLS.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    pub fn start(folder: &Path, certificate: &Certificate) -> Server {
        const PROGRAM: &str = r#"
import functools, http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith("/away/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/" + self.path[6:])
        self.end_headers()
folder, chain, key = sys.argv[1:]
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;
        let mut process = Command::new("python3")
            .args(["-c", PROGRAM])
            .args([folder, &certificate.chain, &certificate.key])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { port: line.trim().parse().unwrap(), process }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server without TLS that gives each request's path and its connection to `answer`. Gives its address.
fn naughty_server(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            lines.find(String::is_empty);
            answer(request.split(' ').nth(1).unwrap(), &mut stream);
        }
    });
    address
}

fn give(stream: &mut TcpStream, claimed: usize, bytes: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {claimed}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes));
}

fn install(source: impl AsRef<std::ffi::OsStr>, to: &Path, signer: &Signer, more: &[&str]) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(["package", "install"]).arg(source).arg(to).args(["--key", &signer.key()]).args(more);
    Ran::of(&mut command)
}

#[test]
fn installing_keeps_the_package_before_and_rolling_back_returns_to_it() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let packages: Vec<_> =
        (1..=3).map(|i| folder.signed_package(&format!("usb/{i}"), &signer, 1000 + i)).collect();
    let to = folder.folder("lib").join("disc.weakrest");
    let before = folder.path("lib/disc.weakrest.previous");
    let rollback = || weakrest!("package", "rollback", to);
    rollback().exits(2).says(&["there is no previous package of", "disc.weakrest"]);

    let key = folder.file("plant.pub", format!("untrusted comment: plant\n{}\n", signer.key()).as_bytes());
    weakrest!("package", "install", packages[0], to, "--key", key).exits(0).prints(&[
        &hash(&packages[0]),
        "of disc is installed",
        "timestamp:1001",
        "systemctl reload weakrest",
    ]);
    assert_eq!(contents(&to), contents(&packages[0]));
    assert!(!before.exists());
    install(&packages[0], &to, &signer, &[]).exits(0).prints(&["this package is already installed"]);
    assert!(!before.exists());
    for pair in packages.windows(2) {
        install(&pair[1], &to, &signer, &[])
            .exits(0)
            .prints(&["the previous package is kept as", ".previous"]);
        assert_eq!((contents(&to), contents(&before)), (contents(&pair[1]), contents(&pair[0])));
    }
    rollback().exits(0).prints(&[&hash(&packages[1])]);
    assert_eq!((contents(&to), contents(&before)), (contents(&packages[1]), contents(&packages[2])));
    rollback().exits(0).prints(&[&hash(&packages[2])]);
    assert_eq!((contents(&to), contents(&before)), (contents(&packages[2]), contents(&packages[1])));
    weakrest!("package", "verify", to, "--key", signer.key()).exits(0).prints(&["timestamp:1003"]);
    assert_eq!(names(&folder.path("lib")), INSTALLED);

    // What was in use before must be sound, too.
    std::fs::write(before.join("bank-1.safetensors"), "").unwrap();
    let damaged = folder.contents();
    rollback().exits(3).says(&["disc.weakrest.previous", "bank-1.safetensors was changed"]);
    assert_eq!(folder.contents(), damaged);
    // A damaged package is replaced by the very same.
    std::fs::write(to.join("bank-1.safetensors"), "").unwrap();
    install(&packages[2], &to, &signer, &[]).exits(0);
    assert_eq!(contents(&to), contents(&packages[2]));
}

#[test]
fn a_package_comes_from_a_server_that_is_vouched_for() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let package = folder.signed_package("www/a b/disc", &signer, 1);
    let good = Certificate::new(&folder, "localhost");
    let server = Server::start(&folder.path("www"), &good);
    let url = |path: &str| format!("https://localhost:{}/{path}", server.port);
    let to = folder.folder("lib").join("disc.weakrest");
    let ca = |certificate: &Certificate| certificate.authority.to_str().unwrap().to_owned();

    let other = Certificate::new(&folder, "elsewhere.example");
    for (source, authority, says) in [
        (url("a%20b/disc"), Some(ca(&other)), "invalid peer certificate"),
        (url("a%20b/disc"), None, "invalid peer certificate"),
        (url("a%20b/disc").replace("localhost", "127.0.0.1"), Some(ca(&good)), "not valid for name"),
        (url("a%20b/none"), Some(ca(&good)), "package.toml: the server has no such file"),
        (url("away/disc"), Some(ca(&good)), "https only"),
        ("https://localhost:9/disc".into(), Some(ca(&good)), "cannot be fetched"),
    ] {
        let more: Vec<&str> = authority.iter().flat_map(|file| ["--ca", file.as_str()]).collect();
        let ran = install(&source, &to, &signer, &more);
        assert!(matches!(ran.code, Some(2 | 3)), "{ran}");
        // Without authorities of its own a system trusts nobody.
        let told = ran.err.contains(says) || (authority.is_none() && ran.err.contains("--ca"));
        assert!(told, "{says} is not said\n{ran}");
    }
    for (source, says) in [
        ("http://plant.example/disc", "not encrypted"),
        ("ftp://plant.example/disc", "https://"),
        ("https://plant.example/disc?version=2", "cannot have ? or #"),
        ("https://", "not the address"),
    ] {
        install(source, &to, &signer, &[]).exits(2).says(&[source, says]);
    }
    let empty = folder.file("empty.pem", b"");
    install(url("disc"), &to, &signer, &["--ca", empty.to_str().unwrap()]).exits(2).says(&["no certificate"]);
    assert!(contents(&folder.path("lib")).is_empty());

    install(url("a%20b/disc/"), &to, &signer, &["--ca", &ca(&good)]).exits(0).prints(&[&hash(&package)]);
    assert_eq!(contents(&to), contents(&package));
}

/// What somebody may offer who has no key, or puts the key's owner's signatures to another use.
#[test]
fn a_package_that_is_not_what_was_signed_is_refused_and_changes_nothing() {
    let (folder, signer, stranger) = (Folder::new(), Signer::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    let first = folder.signed_package("first", &signer, 1000);
    install(&first, &to, &signer, &[]).exits(0);
    let installed = contents(&folder.path("lib"));

    type Attack<'a> = (&'a str, &'a dyn Fn(&Path), i32, &'a str);
    let manifest = |package: &Path| std::fs::read(package.join("package.toml")).unwrap();
    let put_signature =
        |package: &Path, text: &str| std::fs::write(package.join("package.toml.minisig"), text).unwrap();
    let rename = |package: &Path, to: &str| {
        forge(package, |text| text.replace("[files.\"bank-1.safetensors\"]", &format!("[files.{to:?}]")));
        signer.sign(package, 2000);
    };
    let attacks: &[Attack] = &[
        ("file", &|p| std::fs::write(p.join("backbone.onnx"), "network").unwrap(), 3, "backbone.onnx"),
        (
            "missing",
            &|p| std::fs::remove_file(p.join("golden/ordinary.png")).unwrap(),
            3,
            "golden/ordinary.png",
        ),
        (
            "manifest",
            &|p| forge(p, |t| t.replacen("made_by = \"", "made_by = \"me ", 1)),
            3,
            "not of this package",
        ),
        ("garbage", &|p| std::fs::write(p.join("package.toml"), "[[[").unwrap(), 3, "not of this package"),
        (
            "unsigned",
            &|p| std::fs::remove_file(p.join("package.toml.minisig")).unwrap(),
            3,
            "there is no signature",
        ),
        ("stranger", &|p| stranger.sign(p, 2000), 3, "a key that is not trusted here"),
        ("no-signature", &|p| put_signature(p, "signature"), 3, "not in minisign's form"),
        (
            "of-another-file",
            &|p| {
                put_signature(
                    p,
                    &signer.signature(&std::fs::read(p.join("bank-1.safetensors")).unwrap(), "x"),
                )
            },
            3,
            "not of this package",
        ),
        (
            "of-another-package",
            &|p| {
                let signature = std::fs::read_to_string(first.join("package.toml.minisig")).unwrap();
                put_signature(p, &signature);
            },
            3,
            "not of this package",
        ),
        (
            "comment",
            &|p| put_signature(p, &signer.signature(&manifest(p), "timestamp:1").replace("p:1", "p:9999")),
            3,
            "not of this package",
        ),
        ("out", &|p| rename(p, "../bank-1.safetensors"), 3, "not a file inside the package"),
        ("absolute", &|p| rename(p, "/tmp/bank-1.safetensors"), 3, "not a file inside the package"),
        ("older", &|p| signer.sign(p, 999), 2, "signed before the installed one was; add --older"),
        ("timeless", &|p| put_signature(p, &signer.signature(&manifest(p), "x")), 2, "add --older"),
        (
            "product",
            &|p| {
                forge(p, |t| t.replacen("product = \"disc\"", "product = \"cap\"", 1));
                signer.sign(p, 2000);
            },
            2,
            "it is for \"cap\", but \"disc\" is installed; add --other-product",
        ),
        (
            "golden",
            &|p| {
                forge(p, |t| {
                    let at = t.find("score = ").unwrap() + 8;
                    format!("{}9{}", &t[..at], &t[at..])
                });
                signer.sign(p, 2000);
            },
            3,
            "golden",
        ),
    ];
    let certificate = Certificate::new(&folder, "localhost");
    let server = Server::start(&folder.path("offered"), &certificate);
    let ca = certificate.authority.to_str().unwrap();
    for (name, attack, code, says) in attacks {
        let offered = folder.signed_package(&format!("offered/{name}"), &signer, 2000);
        attack(&offered);
        let url = format!("https://localhost:{}/{name}", server.port);
        install(&offered, &to, &signer, &[]).exits(*code).says(&[says]);
        install(url, &to, &signer, &["--ca", ca]).exits(*code).says(&[says]);
        assert_eq!(contents(&folder.path("lib")), installed, "{name}");
    }
    install(folder.path("offered/older"), &to, &signer, &["--older"]).exits(0);
    install(folder.path("offered/product"), &to, &signer, &["--other-product"]).exits(0);
    weakrest!("package", "show", to).exits(0).prints(&["product         cap\n"]);
    // Nobody asked whose signature it must have.
    weakrest!("package", "install", first, to).exits(2).says(&["--key", "--unsigned"]);
    weakrest!("package", "install", first, to, "--unsigned", "--other-product").exits(0);
    weakrest!("package", "verify", to, "--key", signer.key()).exits(3).says(&["there is no signature"]);
    // A folder of somebody else's is never replaced.
    let home = folder.file("home/letter", b"dear").parent().unwrap().to_path_buf();
    install(&first, &home, &signer, &[]).exits(2).says(&["home exists and is not a package"]);
    assert!(home.join("letter").exists());
}

#[test]
fn a_server_that_dies_lies_or_never_ends_changes_nothing() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    install(folder.signed_package("first", &signer, 1), &to, &signer, &[]).exits(0);
    let installed = contents(&folder.path("lib"));
    let offered = folder.signed_package("offered", &signer, 2);
    let endless = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b'#'; 1 << 16]).is_ok() {}
    };
    type Answer = Box<dyn Fn(&str, &mut TcpStream, &[u8]) + Send + Sync>;
    type Act = Box<dyn Fn(&mut TcpStream, &[u8]) + Send + Sync>;
    let when = |file: &'static str, act: Act| -> Answer {
        Box::new(move |name, stream, bytes| match name == file {
            true => act(stream, bytes),
            false => give(stream, bytes.len(), bytes),
        })
    };
    let answers: Vec<(&str, Answer)> = vec![
        ("broke off", when("bank-1.safetensors", Box::new(|s, b| give(s, b.len(), &b[..b.len() / 2])))),
        ("broke off", when("package.toml", Box::new(|s, b| give(s, b.len(), &b[..b.len() / 2])))),
        ("cannot be fetched", when("bank-1.safetensors", Box::new(|_, _| ()))),
        (
            "is not the file that",
            when("bank-1.safetensors", Box::new(|s, b| give(s, b.len() / 2, &b[..b.len() / 2]))),
        ),
        ("is not the file that", when("bank-1.safetensors", Box::new(move |s, _| endless(s)))),
        ("has more than 1048576 bytes", when("package.toml", Box::new(move |s, _| endless(s)))),
        ("has more than 1048576 bytes", when("package.toml.minisig", Box::new(move |s, _| endless(s)))),
        (
            "status 500",
            when(
                "golden/ordinary.png",
                Box::new(|s, _| {
                    let _ = s.write_all(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }),
            ),
        ),
        // Waiting for it takes its time.
        ("cannot be fetched", when("backbone.onnx", Box::new(|s, _| drop(s.read(&mut [0; 1]))))),
    ];
    for (says, answer) in answers {
        let root = offered.clone();
        let address = naughty_server(move |path, stream| {
            let name = path.strip_prefix("/disc/").unwrap();
            answer(name, stream, &std::fs::read(root.join(name)).unwrap());
        });
        install(format!("{address}/disc"), &to, &signer, &[]).exits(3).says(&[&address, says]);
        assert_eq!(contents(&folder.path("lib")), installed, "{says}");
    }
    install(&offered, &to, &signer, &[]).exits(0);
}

#[test]
fn two_installations_at_once_do_not_mix() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    let (first, second) = (folder.signed_package("1", &signer, 1), folder.signed_package("2", &signer, 2));
    let (to_here, asked) = channel();
    let (go_on, wait) = channel::<()>();
    let (root, wait) = (first.clone(), std::sync::Mutex::new(wait));
    let address = naughty_server(move |path, stream| {
        if path.ends_with("bank-1.safetensors") {
            to_here.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        let bytes = std::fs::read(root.join(&path[1..])).unwrap();
        give(stream, bytes.len(), &bytes);
    });
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| install(&address, &to, &signer, &[]));
        asked.recv_timeout(Duration::from_secs(20)).unwrap();
        install(&second, &to, &signer, &[]).exits(2).says(&["another package is being installed in"]);
        weakrest!("package", "rollback", to).exits(2).says(&["another package is being installed in"]);
        go_on.send(()).unwrap();
        slow.join().unwrap().exits(0);
    });
    assert_eq!(contents(&to), contents(&first));
    install(&second, &to, &signer, &[]).exits(0);
}

#[test]
fn whenever_it_is_killed_a_whole_package_is_in_place() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    let packages = [1, 2].map(|i| folder.signed_package(&i.to_string(), &signer, 1));
    let whole = packages.each_ref().map(|package| contents(package));
    install(&packages[0], &to, &signer, &[]).exits(0);
    let start = std::time::Instant::now();
    install(&packages[1], &to, &signer, &[]).exits(0);
    let usual = start.elapsed();
    let mut random = Random(7);
    let mut changed = 0;
    for round in 0..40 {
        let now = contents(&to);
        let next = usize::from(now == whole[0]);
        let mut command = Command::new(PROGRAM);
        command.args(["package", "install"]).arg(&packages[next]).arg(&to).args(["--key", &signer.key()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(usual.mul_f32(0.8 + 0.7 * random.signed()));
        child.kill().unwrap();
        child.wait().unwrap();
        let then = contents(&to);
        assert!(whole.contains(&then), "round {round}");
        changed += usize::from(then != now);
        let before = folder.path("lib/disc.weakrest.previous");
        assert!(!before.exists() || whole.contains(&contents(&before)), "round {round}");
    }
    eprintln!("killed 40 times, {changed} times with the new package in place");
    // What the killed ones left behind is gone after the next.
    install(&packages[0], &to, &signer, &[]).exits(0);
    install(&packages[1], &to, &signer, &[]).exits(0);
    assert_eq!(names(&folder.path("lib")), INSTALLED);
}

/// At the only moments that matter, which chance would hardly find.
#[test]
fn killed_before_any_renaming_a_whole_package_is_in_place() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    let before = folder.path("lib/disc.weakrest.previous");
    let packages = [1, 2, 3].map(|i| folder.signed_package(&i.to_string(), &signer, i));
    let [first, second, third] = packages.each_ref().map(|package| contents(package));
    install(&packages[0], &to, &signer, &[]).exits(0);
    install(&packages[1], &to, &signer, &[]).exits(0);
    let killed = |at: &str| {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject=renameat2:signal=KILL:when={at}"),
            PROGRAM,
        ]);
        command.args(["package", "install"]).arg(&packages[2]).arg(&to).args(["--key", &signer.key()]);
        let ended = command.stdin(Stdio::null()).output();
        ended.is_ok_and(|e| e.status.code().is_none() && folder.path("lib/.disc.weakrest.incoming").exists())
    };
    if !killed("1") {
        return skip("no strace (Debian: apt install strace): no installation was killed at a chosen moment");
    }
    assert_eq!((contents(&to), contents(&before)), (second.clone(), first));
    assert!(killed("2"));
    assert_eq!((contents(&to), contents(&before)), (second.clone(), third.clone()));
    install(&packages[2], &to, &signer, &[]).exits(0);
    assert_eq!((contents(&to), contents(&before)), (third, second));
    assert!(!folder.path("lib/.disc.weakrest.incoming").exists());
}

#[test]
fn a_full_disk_changes_nothing() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let (first, second) = (folder.signed_package("1", &signer, 1), folder.signed_package("2", &signer, 2));
    let disk = folder.folder("disk");
    // A disk of its own, seen by nobody else, with room for one package and no second one.
    let script = r#"
        program=$1 first=$2 second=$3 key=$4 disk=$5
        mount -t tmpfs -o size=6m none "$disk" || exit 77
        "$program" package install "$first" "$disk/disc" --key "$key" > /dev/null || exit 78
        sums() { find "$disk" | sort; find "$disk" -type f -exec sha256sum {} + | sort; }
        before=$(sums)
        "$program" package install "$second" "$disk/disc" --key "$key"
        echo "exit code $?"
        [ "$(sums)" = "$before" ] && echo unchanged || sums
    "#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", PROGRAM]);
    command.args([&first, &second]).arg(signer.key()).arg(&disk);
    match command.stdin(Stdio::null()).output().map(Ran::from) {
        Ok(ran) if ran.code == Some(0) => {
            assert_eq!(ran.out, "exit code 3\nunchanged\n", "{ran}");
            ran.says(&["the disk is full; free some space and try again: No space left on device"]);
        }
        Ok(ran) if ran.code == Some(78) => panic!("{ran}"),
        _ => skip("a small disk cannot be mounted here"),
    }
}

#[test]
fn the_minisign_tool_signs_what_is_installed() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| {
        Command::new("minisign").args(arguments).current_dir(folder.path("")).stdin(Stdio::null()).output()
    };
    if run(&["-v"]).is_err() {
        return skip("no minisign (Debian: apt install minisign): its signatures are not tested");
    }
    let made = run(&["-G", "-W", "-p", "plant.pub", "-s", "plant.key"]).unwrap();
    assert!(made.status.success(), "{made:?}");
    let (package, to) = (folder.package("disc"), folder.path("installed"));
    let sign = |more: &[&str]| {
        let arguments = [&["-S", "-s", "plant.key", "-m", "disc/package.toml"], more].concat();
        assert!(run(&arguments).unwrap().status.success());
    };
    let key = folder.path("plant.pub");
    sign(&["-l"]);
    weakrest!("package", "install", package, to, "--key", key).exits(3).says(&["minisign's old form"]);
    sign(&[]);
    weakrest!("package", "install", package, to, "--key", key)
        .exits(0)
        .prints(&["signed: timestamp:", "file:package.toml"]);
}

/// Whatever is left of the package in use, it is known what it was.
#[test]
fn a_damaged_package_is_replaced_by_none_that_is_older_or_of_another_product() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let installed = folder.signed_package("installed", &signer, 2000);
    let [older, newer] = [1000, 3000].map(|t| folder.signed_package(&format!("signed-{t}"), &signer, t));
    let other = folder.signed_package("other", &signer, 3000);
    forge(&other, |text| text.replacen("product = \"disc\"", "product = \"cap\"", 1));
    signer.sign(&other, 3000);
    let first = folder.folder("first").join("disc.weakrest");
    install(&installed, &first, &signer, &[]).exits(0);

    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let put = |file: PathBuf, bytes: &[u8]| std::fs::write(file, bytes).unwrap();
    let half = |file: PathBuf| {
        let whole = std::fs::read(&file).unwrap();
        put(file, &whole[..whole.len() / 2]);
    };
    let damages: &[Damage] = &[
        ("an empty manifest", &|p| put(p.join("package.toml"), b"")),
        ("half a manifest", &|p| half(p.join("package.toml"))),
        ("no manifest", &|p| std::fs::remove_file(p.join("package.toml")).unwrap()),
        ("a folder for a manifest", &|p| {
            std::fs::remove_file(p.join("package.toml")).unwrap();
            std::fs::create_dir(p.join("package.toml")).unwrap();
        }),
        ("another name in the manifest", &|p| {
            let text = std::fs::read_to_string(p.join("package.toml")).unwrap();
            put(p.join("package.toml"), text.replace("\"disc\"", "\"cap\"").as_bytes());
        }),
        ("no signature", &|p| std::fs::remove_file(p.join("package.toml.minisig")).unwrap()),
        ("half a signature", &|p| half(p.join("package.toml.minisig"))),
        ("no bank", &|p| std::fs::remove_file(p.join("bank-1.safetensors")).unwrap()),
        ("nothing", &|p| {
            std::fs::remove_dir_all(p).unwrap();
            std::fs::create_dir(p).unwrap();
        }),
    ];
    for (i, (what, damage)) in damages.iter().enumerate() {
        eprintln!("{what}");
        let to = folder.folder(&format!("lib-{i}")).join("disc.weakrest");
        install(&installed, &to, &signer, &[]).exits(0);
        damage(&to);
        let before = contents(to.parent().unwrap());
        install(&older, &to, &signer, &[]).exits(2).says(&["add --older"]);
        install(&other, &to, &signer, &[])
            .exits(2)
            .says(&["\"cap\", but \"disc\" is installed", "--other-product"]);
        assert_eq!(contents(to.parent().unwrap()), before);
        let repaired = if i % 2 == 0 { &newer } else { &installed };
        install(repaired, &to, &signer, &[]).exits(0);
        assert_eq!(contents(&to), contents(repaired));
    }
    // One that was copied there, of which nothing is remembered, still says when it was signed.
    let to = folder.folder("copied").join("disc.weakrest");
    install(&installed, &to, &signer, &[]).exits(0);
    std::fs::remove_file(folder.path("copied/.disc.weakrest.installed")).unwrap();
    put(to.join("package.toml"), b"product = ");
    install(&older, &to, &signer, &["--other-product"]).exits(2).says(&["add --older"]);
    install(&newer, &to, &signer, &[])
        .exits(2)
        .says(&["is damaged, so its product is unknown", "add --other-product"]);
    install(&newer, &to, &signer, &["--other-product"]).exits(0);
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let to = folder.folder("lib").join("disc.weakrest");
    for (ahead, says) in [(2 * 3600 + 60, "2 hours ahead"), (400 * 86_400 + 60, "400 days ahead")] {
        let package = folder.signed_package(&format!("in-{ahead}"), &signer, now + ahead);
        install(package, &to, &signer, &[]).exits(2).says(&[says, "of this machine's clock", "timedatectl"]);
        assert!(names(&folder.path("lib")).is_empty());
    }
    // Two clocks are never the same.
    install(folder.signed_package("soon", &signer, now + 600), &to, &signer, &[]).exits(0);
}

#[test]
fn a_server_that_drips_is_given_up() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let package = folder.signed_package("package", &signer, 1);
    let to = folder.folder("lib").join("disc.weakrest");
    for (dripping, in_the_head) in
        [("package.toml", false), ("bank-1.safetensors", false), ("package.toml.minisig", true)]
    {
        let root = package.clone();
        let address = naughty_server(move |path, stream| {
            let bytes = std::fs::read(root.join(&path[1..])).unwrap();
            if &path[1..] != dripping {
                return give(stream, bytes.len(), &bytes);
            }
            let head = if in_the_head { "HTTP/1.1 200 OK\r\nX-Slow: " } else { "HTTP/1.1 200 OK\r\n\r\n" };
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(b"#").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let start = std::time::Instant::now();
        let ran = install(&address, &to, &signer, &["--patience", "2"]).exits(3).says(&[&address]);
        assert!(
            in_the_head || ran.err.contains("did not come within 2 s; allow more with --patience"),
            "{ran}"
        );
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!(names(&folder.path("lib")).is_empty());
    }
    install("x", &to, &signer, &["--patience", "0"]).exits(2).says(&["--patience"]);
}

/// A server on this machine needs no TLS, but sends nobody to one that does.
#[test]
fn no_way_leads_to_a_server_without_tls() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let package = folder.signed_package("disc", &signer, 1);
    let to = folder.folder("lib").join("disc.weakrest");
    let (tell, asked) = channel();
    let target = naughty_server(move |path, stream| {
        let _ = tell.send(path.to_owned());
        let bytes = std::fs::read(package.join(&path[1..])).unwrap();
        give(stream, bytes.len(), &bytes);
    });
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let elsewhere = target.clone();
        let address = naughty_server(move |path, stream| {
            let head =
                format!("HTTP/1.1 {status}\r\nLocation: {elsewhere}{path}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        });
        install(&address, &to, &signer, &[]).exits(3).says(&[&address, "without TLS this is not followed"]);
    }
    // Nor does a proxy come between, whatever the environment names.
    let mut command = Command::new(PROGRAM);
    command.args(["package", "install", &target]).arg(&to).args(["--key", &signer.key()]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    assert!(asked.try_recv().is_err(), "somebody was sent there");
    Ran::of(&mut command).exits(0);
}

#[test]
fn everybody_may_read_a_package_whatever_the_mask_of_who_made_it() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, signer) = (Folder::new(), Signer::new());
    let package = folder.signed_package("package", &signer, 1);
    let good = folder.good_parts("good", 0, 4);
    let (installed, enrolled) = (folder.folder("lib").join("disc.weakrest"), folder.path("enrolled"));
    let private = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\"", PROGRAM]);
        Ran::of(command.args(arguments)).exits(0);
    };
    let key = signer.key();
    private(&[
        "package".as_ref(),
        "install".as_ref(),
        package.as_ref(),
        installed.as_ref(),
        "--key".as_ref(),
        key.as_ref(),
    ]);
    private(&["enroll".as_ref(), "--images".as_ref(), good.as_ref(), "--output".as_ref(), enrolled.as_ref()]);
    for root in [installed, enrolled] {
        for path in contents(&root).into_keys().map(|name| root.join(name)).chain([root.clone()]) {
            let expected = if path.is_dir() { 0o755 } else { 0o644 };
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, expected, "{} has {mode:o}", path.display());
        }
    }
}

/// What a process left that was killed is removed, and nothing that somebody works with or misses.
#[test]
fn leftovers_are_swept_and_nothing_else() {
    let (folder, signer) = (Folder::new(), Signer::new());
    let to = folder.folder("lib").join("disc.weakrest");
    let kept = [
        "lib/.weakrest-inUse1/new/x",
        "lib/.weakrest-rePlac/old/x",
        "lib/.weakrest-of-mine/x",
        "lib/.weakrest-aFile1",
    ];
    let left = ["lib/.weakrest-a1B2c3/new/golden/x", "lib/.weakrest-000000/new/x"];
    kept.iter().chain(&left).for_each(|name| drop(folder.file(name, b"x")));
    let outside = folder.file("outside/new/x", b"x");
    std::os::unix::fs::symlink(folder.path("outside"), folder.path("lib/.weakrest-aLink1")).unwrap();
    let lock = std::fs::File::open(folder.path("lib/.weakrest-inUse1")).unwrap();
    lock.lock().unwrap();
    install(folder.signed_package("1", &signer, 1), &to, &signer, &[]).exits(0);
    assert!(kept.iter().all(|name| folder.path(name).exists()) && outside.exists());
    assert!(folder.path("lib/.weakrest-aLink1").exists());
    assert!(left.iter().all(|name| !folder.path(name).parent().unwrap().exists()));
    drop(lock);
    // Enrolling sweeps, too.
    let good = folder.good_parts("good", 0, 3);
    enroll(&good, &folder.path("lib/cap.weakrest"), &[]).exits(0);
    assert!(!folder.path("lib/.weakrest-inUse1").exists() && folder.path(kept[1]).exists());
}
