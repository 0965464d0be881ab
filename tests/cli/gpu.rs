//! A GPU that cannot be loaded, does not take the network, has no memory, or is lost: see `tests/data/gpu/gpu.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::*;
use crate::run::{Service, config, parts};

/// What `gpu.c` calls a place in ONNX Runtime's table of functions.
macro_rules! places {
    ($($name:literal: $function:ident),+ $(,)?) => {
        [$(format!("-D{}={}", $name, std::mem::offset_of!(ort::sys::OrtApi, $function) / size_of::<usize>())),+]
    };
}

/// The library, compiled once. `None` without a C compiler.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gpu-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libonnxruntime.so");
        let places = places! {
            "CREATE_STATUS": CreateStatus,
            "LIST": GetAvailableProviders,
            "RELEASE_LIST": ReleaseAvailableProviders,
            "CREATE_CUDA": CreateCUDAProviderOptions,
            "UPDATE_CUDA": UpdateCUDAProviderOptions,
            "RELEASE_CUDA": ReleaseCUDAProviderOptions,
            "APPEND_CUDA": SessionOptionsAppendExecutionProvider_CUDA_V2,
            "CREATE_TENSORRT": CreateTensorRTProviderOptions,
            "UPDATE_TENSORRT": UpdateTensorRTProviderOptions,
            "RELEASE_TENSORRT": ReleaseTensorRTProviderOptions,
            "APPEND_TENSORRT": SessionOptionsAppendExecutionProvider_TensorRT_V2,
            "CONFIGURE": AddSessionConfigEntry,
            "LISTEN": SetUserLoggingFunction,
            "SESSION": CreateSessionFromArray,
            "RUN": Run,
            "RUN_BOUND": RunWithBinding,
            "ALLOCATOR": CreateAllocator,
            "NAME": MemoryInfoGetName,
            "HOST_MEMORY": CreateCpuMemoryInfo,
            "RELEASE_MEMORY": ReleaseMemoryInfo,
        };
        let functions = size_of::<ort::sys::OrtApi>() / size_of::<usize>();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(format!("-DFUNCTIONS={functions}"))
            .args(places)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gpu/gpu.c"))
            .arg("-ldl")
            .output()
            .ok()?;
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Some(library)
    };
    let library = LIBRARY.get_or_init(compile).as_deref();
    if library.is_none() {
        skip("there is no C compiler to make a GPU with");
    }
    library
}

/// The environment of a machine with a GPU of which `more` is true.
fn machine<'a>(library: &'a Path, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let real = Box::leak(Box::new(std::env::var("ORT_DYLIB_PATH").unwrap()));
    [&[("ORT_DYLIB_PATH", library.to_str().unwrap()), ("GPU_REAL", real.as_str())], more].concat()
}

/// Runs the program there.
fn on(machine: &[(&str, &str)], arguments: &[&str]) -> Ran {
    Ran::of(Command::new(PROGRAM).args(arguments).envs(machine.iter().copied()))
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A configuration with `inspection`.
pub fn configured(folder: &Folder, inspection: &str) -> PathBuf {
    parts(folder);
    let path = config(folder, ready_package(), "");
    let text = std::fs::read_to_string(&path).unwrap();
    folder
        .file("weakrest.toml", text.replace("threads = 1", &format!("threads = 1\n{inspection}")).as_bytes())
}

#[test]
fn a_gpu_that_works_runs_the_networks() {
    let Some(library) = library() else { return };
    let gpu = machine(library, &[]);
    on(&gpu, &["check", text(ready_package()), "--provider", "cuda"]).exits(0).prints(&[
        "providers      tensorrt can be loaded\n               cuda     can be loaded\n               webgpu   not built in\n",
        "network        efficientnet-lite1 runs on cuda\n",
        "all is well\n",
    ]);
}

/// The scores of pictures.
pub fn scores(ran: &Ran) -> Vec<f64> {
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    ran.out.lines().map(|text| line(text)["score"].as_f64().unwrap()).collect()
}

#[test]
fn a_gpu_runs_a_network_as_one_graph_only_if_that_computes_what_plain_runs_do() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    let inspect = |environment: &[(&str, &str)], options: &[&str]| {
        let gpu = machine(library, &[&[("RUST_LOG", "debug")], environment].concat());
        let arguments = ["inspect", "--json", text(ready_package()), text(&good)];
        let ran = on(&gpu, &[&arguments, options].concat()).exits(0);
        (scores(&ran), ran.err)
    };
    let (expected, _) = inspect(&[], &["--provider", "cpu"]);
    assert!(expected.len() == 4 && expected[0] != expected[1], "{expected:?}");
    const CAPTURED: &str = "runs on cuda as one captured graph";

    let (found, said) = inspect(&[], &["--provider", "cuda"]);
    assert!(said.contains(CAPTURED), "{said}");
    assert_eq!(found, expected);

    // The next picture would get the score of the one before it.
    let (found, said) = inspect(&[("GPU_STALE", "always")], &["--provider", "cuda"]);
    assert!(!said.contains(CAPTURED) && said.contains("its output differs from a plain run's"), "{said}");
    assert_eq!(found, expected);

    let (found, said) = inspect(&[], &["--provider", "cuda", "--no-graphs"]);
    assert!(!said.contains("captured graph"), "{said}");
    assert_eq!(found, expected);
}

/// CUDA captures for each thread anew: a graph that was right where it was loaded could be wrong where it runs.
#[test]
fn a_graph_runs_on_the_thread_that_captured_it() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let path = configured(&folder, "providers = [\"cuda\"]\nrequire = \"cuda\"");
    let service = Service::with(&path, &machine(library, &[("GPU_STALE", "thread")]));
    let parts: Vec<_> = (0..8).map(|_| service.part()).collect();
    assert!(service.threads().contains(&"gpu".to_owned()), "{:?}", service.threads());
    assert!(parts.iter().all(|part| part["verdict"] != "fault"), "{parts:?}");
    assert!(parts.iter().any(|part| part["score"] != parts[0]["score"]), "{parts:?}");
}

#[test]
fn a_gpu_whose_libraries_do_not_load_is_told_and_passed_over_only_where_that_is_allowed() {
    let Some(library) = library() else { return };
    let cause = "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open \
                 shared object file: No such file or directory";
    let gpu = machine(library, &[("GPU_LOAD", cause)]);
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 2);
    let (package, good) = (text(ready_package()), text(&good));
    let said = ["the provider cuda cannot be used", "cuda cannot be loaded", "libcublasLt.so.12"];
    let judged = on(&gpu, &["inspect", package, good, "--provider", "cuda"]).exits(3).says(&said);
    assert_eq!(judged.out, "");
    on(&gpu, &["inspect", package, good, "--provider", "cuda,cpu"]).exits(0).says(&["WARN"]).says(&said);
    on(&gpu, &["check", package, "--provider", "tensorrt,cpu"]).exits(0).prints(&[
        "tensorrt asked for, but",
        "libcublasLt.so.12",
        "cuda     built in, but",
        "runs on cpu only",
    ]);

    let required = configured(&folder, "providers = [\"cuda\", \"cpu\"]\nrequire = \"cuda\"");
    on(&gpu, &["run", "--config", text(&required)]).exits(3).says(&said);
}

#[test]
fn a_network_that_needs_the_cpu_is_refused_with_the_nodes_names() {
    let Some(library) = library() else { return };
    let gpu = machine(library, &[("GPU_LEAVES", "Unique (/odd/unique)")]);
    let said = [
        "the provider cuda cannot be used",
        "the CPU would have to run Unique (/odd/unique)",
        "fallback to CPU EP has been explicitly disabled",
    ];
    let package = text(ready_package());
    let refused = on(&gpu, &["check", package, "--provider", "cuda"]).exits(3).says(&said);
    assert!(!refused.err.contains("/stem/conv"), "the GPU has this node\n{refused}");
    on(&gpu, &["check", package, "--provider", "cuda,cpu"]).exits(0).says(&["WARN"]).says(&said);
}

#[test]
fn a_provider_that_does_not_exist_is_a_wrong_name() {
    let folder = Folder::new();
    let path = configured(&folder, "providers = [\"cuda\", \"gpu\"]");
    let known = "inspection.providers[1]: is unknown; set \"tensorrt\", \"cuda\", \"webgpu\" or \"cpu\"";
    weakrest!("check", "--config", path).exits(2).says(&["weakrest.toml:4: ", known]);
    weakrest!("run", "--config", path).exits(2).says(&["weakrest.toml:4: ", known]);
    let path = configured(&folder, "require = \"cuda\"");
    weakrest!("check", "--config", path).exits(2).says(&["inspection.require", "cuda is not listed"]);
}

/// Two copies and the graph are a run each, for the golden pictures and for each part.
#[test]
fn a_gpu_that_fails_while_the_line_runs_passes_no_part() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let path = configured(&folder, "providers = [\"cuda\", \"cpu\"]\nrequire = \"cuda\"");
    let cause = "CUDA failure 2: out of memory ; GPU=0";
    let plan = format!("61 70 {cause}");
    let service = Service::with(&path, &machine(library, &[("GPU_RUNS", &plan)]));
    service.wait_for("networks run on cuda");
    let (mut faults, mut before) = (0, 0);
    // Ten runs fail, each of another part; before and after them parts are judged.
    loop {
        let part = service.part();
        match part["verdict"].as_str().unwrap() {
            "fault" => {
                assert_eq!(part["fault"], "inspection", "{part}");
                assert!(part["reason"].to_string().contains(cause), "{part}");
                faults += 1;
            }
            _ if faults > 0 => break,
            _ => before += 1,
        }
    }
    assert_eq!(faults, 10);
    assert!(before > 0);

    // A GPU that is lost for good gives no verdict ever again, and no package.
    let gpu = machine(library, &[("GPU_RUNS", "1 1000000 CUDA failure 719: unspecified launch failure")]);
    on(&gpu, &["run", "--config", text(&path)]).exits(3).says(&["CUDA failure 719"]);
    let good = folder.good_parts("good", 0, 6);
    let made = folder.path("made.weakrest");
    let arguments = ["--provider", "cuda", "--images", text(&good), "--output", text(&made)];
    on(&gpu, &[&["enroll", "--quality", "fast", "--size", "64"], arguments.as_slice()].concat())
        .exits(3)
        .says(&["CUDA failure 719"]);
    assert!(!made.exists());
}

#[test]
fn a_gpu_that_hangs_passes_no_part_and_lets_the_service_end() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    for graphs in [true, false] {
        let path = configured(&folder, &format!("providers = [\"cuda\"]\ngraphs = {graphs}"));
        let service = Service::with(&path, &machine(library, &[("GPU_HANGS", "61")]));
        service.wait_for("networks run on cuda");
        let is_fault = |part: &serde_json::Value| part["verdict"] == "fault";
        let first = std::iter::from_fn(|| Some(service.part())).find(is_fault).unwrap();
        assert!(first["fault"] == "late" || first["fault"] == "overflow", "{first}");
        // Health is lost, and systemd starts a service anew that tells it no more.
        service.wait_for("features thread: hangs for more than 5 s");
        assert!(service.parts_so_far().iter().all(is_fault));
        let (_, time) = service.terminate();
        assert!(time.as_secs_f64() < 5.0, "graphs {graphs}: {time:?}");
    }
}

/// The engines of the package's network.
fn engines(cache: &Path) -> Vec<PathBuf> {
    let here = files(cache).into_iter().map(|file| cache.join(file));
    here.filter(|file| file.extension().is_some_and(|end| end == "engine")).collect()
}

#[test]
fn engines_that_cannot_be_read_are_built_anew() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let (cache, builds) = (folder.path("cache"), folder.path("builds"));
    let path = configured(&folder, &format!("providers = [\"tensorrt\"]\ncache = {cache:?}"));
    let gpu = machine(library, &[("GPU_BUILDS", text(&builds))]);
    let built = || std::fs::read_to_string(&builds).unwrap_or_default().lines().count();
    let check = || on(&gpu, &["check", "--config", text(&path)]).exits(0).prints(&["runs on tensorrt\n"]);
    check();
    let all = engines(&cache);
    assert_eq!((all.is_empty(), built()), (false, all.len()));
    assert_eq!(check().err, "");
    assert_eq!(built(), all.len(), "whole engines are kept");
    for (bytes, what) in
        [(b"eng".as_slice(), "half of an engine"), (b"", "nothing"), (b"of another driver", "another")]
    {
        for engine in &all {
            std::fs::write(engine, bytes).unwrap();
        }
        let before = built();
        check().says(&["WARN", "are built anew: ", "deserialize engine", text(all[0].parent().unwrap())]);
        assert_eq!(built() - before, all.len(), "{what}");
        assert_eq!(check().err, "", "{what}");
    }
}

#[test]
fn engines_that_cannot_be_kept_are_a_warning() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let cache = folder.file("cache", b"a file");
    let path = configured(&folder, &format!("providers = [\"tensorrt\"]\ncache = {cache:?}"));
    on(&machine(library, &[]), &["check", "--config", text(&path)])
        .exits(0)
        .prints(&["runs on tensorrt\n", "all is well\n"])
        .says(&["WARN", "TensorRT's engines cannot be kept", text(&cache), "inspection.cache"]);
}

#[test]
fn two_processes_build_an_engine_once() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    let (cache, builds) = (folder.path("cache"), folder.path("builds"));
    let path = configured(&folder, &format!("providers = [\"tensorrt\"]\ncache = {cache:?}"));
    let gpu = machine(library, &[("GPU_BUILDS", text(&builds)), ("RUST_LOG", "info")]);
    let both: Vec<Ran> = std::thread::scope(|scope| {
        let check = || scope.spawn(|| on(&gpu, &["check", "--config", text(&path)]).exits(0));
        [check(), check()].map(|ran| ran.join().unwrap()).into()
    });
    assert!(both.iter().any(|ran| ran.err.contains("waiting for another process that builds")), "{both:?}");
    assert!(both.iter().all(|ran| !ran.err.contains("built anew")), "{both:?}");
    let built = std::fs::read_to_string(&builds).unwrap().lines().count();
    assert_eq!(built, engines(&cache).len());
}
