//! Networks on WebGPU: a provider with memory and graphs of its own, as CUDA's, that runs on any machine with a Vulkan
//! driver. Chromium brings one that computes on the processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;
use crate::gpu::{scores, text};

/// The environment of a machine with a GPU; `None` where this one cannot be one.
fn machine() -> Option<[(&'static str, PathBuf); 2]> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnxruntime-webgpu/libonnxruntime.so");
    let driver = PathBuf::from("/usr/lib/chromium/vk_swiftshader_icd.json");
    let loader = ["x86_64-linux-gnu", "aarch64-linux-gnu", ""]
        .iter()
        .any(|folder| Path::new("/usr/lib").join(folder).join("libvulkan.so.1").exists());
    for (there, what) in [
        (library.exists(), "make target/onnxruntime-webgpu/libonnxruntime.so"),
        (driver.exists(), "apt install chromium"),
        (loader, "apt install libvulkan1"),
    ] {
        if !there {
            skip(&format!("there is no WebGPU here: {what}"));
            return None;
        }
    }
    Some([("ORT_DYLIB_PATH", library), ("VK_ICD_FILENAMES", driver)])
}

#[test]
fn a_captured_network_judges_each_picture_as_the_cpu_does() {
    let Some(gpu) = machine() else { return };
    let folder = Folder::new();
    let pictures = folder.good_parts("pictures", 0, 3);
    folder.picture("pictures/dented.png", &dented_part(9));
    let inspect = |provider: &str| {
        let arguments = ["inspect", "--json", text(ready_package()), text(&pictures), "--provider", provider];
        Ran::of(Command::new(PROGRAM).args(arguments).envs(gpu.clone()).env("RUST_LOG", "debug")).exits(1)
    };
    let (on_gpu, on_cpu) = (inspect("webgpu"), inspect("cpu"));
    assert!(on_gpu.err.contains("runs on webgpu as one captured graph"), "{on_gpu}");
    let (found, expected) = (scores(&on_gpu), scores(&on_cpu));
    assert_eq!((found.len(), expected.len()), (4, 4));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-3 * expected, "{found} {expected}");
    }
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    let Some([library, _]) = machine() else { return };
    let check = |provider: &str| {
        let arguments = ["check", text(ready_package()), "--provider", provider];
        let mut command = Command::new(PROGRAM);
        Ran::of(command.args(arguments).envs([library.clone()]).env("VK_ICD_FILENAMES", "/nonexistent"))
    };
    let said = ["the provider webgpu cannot be used", "Failed to get a WebGPU adapter"];
    check("webgpu").exits(3).says(&said);
    check("webgpu,cpu").exits(0).says(&said).prints(&["runs on cpu only"]);
}
