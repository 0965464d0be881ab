#!/usr/bin/env python3
"""Checks the networks on a machine with a GPU: `make gpu-test`. Installs nothing.

ONNX Runtime's library is WEAKREST_ONNXRUNTIME, or that of the pip package onnxruntime-gpu. PROVIDERS lists
what must work (default: cuda, and tensorrt where ONNX Runtime can load it). GOOD is a folder of pictures of
good parts (default: the demo's bricks). The packages are enrolled on the CPU: every level of quality, and one
with a head. Each must run on each provider as a whole, give the CPU's scores, and hold for SECONDS_EACH
(default: 60) through `weakrest run` without a fault. Prints a table of times. Exits with 1 if a check fails.
"""

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BINARY = Path(os.environ.get("WEAKREST", "target/release/weakrest")).resolve()
GOOD = Path(os.environ.get("GOOD", "target/demo/pictures/brick/train/good")).resolve()
SECONDS = int(os.environ.get("SECONDS_EACH", "60"))
PACKAGES = {
    "fast": ["--quality", "fast"],
    "fast with head": ["--head", "general"],
    "standard": ["--quality", "standard"],
    "best": ["--quality", "best"],
}
# Scores of TensorRT and CUDA have fewer digits. A package's golden pictures have the same tolerance.
LARGEST_DIFFERENCE = 0.05
# Growth of the device's memory between two thirds of a run, in MiB.
LARGEST_GROWTH = 16
STAGES = ("features", "residuals", "classify")

failed: list[str] = []


def check(what: str, is_so: bool, details: object = "") -> None:
    print(f"{'ok    ' if is_so else 'FAILED'}  {what}  {details}", flush=True)
    if not is_so:
        failed.append(what)


def weakrest(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (BINARY, *words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def library() -> Path:
    """ONNX Runtime's library."""
    named = os.environ.get("WEAKREST_ONNXRUNTIME")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("onnxruntime")
    places = [Path(place) / "capi" for place in (spec.submodule_search_locations or [])] if spec else []
    found = [file for place in places for file in sorted(place.glob("libonnxruntime.so*"))]
    if not found:
        sys.exit("there is no ONNX Runtime: install onnxruntime-gpu, or name it in WEAKREST_ONNXRUNTIME")
    return found[0]


def providers() -> list[str]:
    """What must work."""
    named = os.environ.get("PROVIDERS")
    if named:
        return named.split(",")
    ran = weakrest("check")
    print(ran.stdout, ran.stderr, sep="")
    works = [line.split() for line in ran.stdout.splitlines() if line.endswith("can be loaded")]
    return ["cuda", *(["tensorrt"] if any("tensorrt" in words for words in works) else [])]


def medians(report: dict[str, Any]) -> dict[str, float]:
    """The stages' times of `weakrest bench`."""
    return {stage: report["milliseconds"][stage]["median"] for stage in STAGES}


def used_memory() -> int | None:
    """MiB of the device in use; None without a device."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


def run_service(folder: Path, package: Path, provider: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The parts of a line at full rate, and the device's memory while it runs."""
    config = folder / "line.toml"
    config.write_text(
        f"[inspection]\npackage = {json.dumps(str(package))}\nproviders = [{json.dumps(provider)}]\n"
        f"require = {json.dumps(provider)}\n"
        f"onnxruntime = {json.dumps(os.environ['ORT_DYLIB_PATH'])}\n"
        f'[camera]\nkind = "folder"\npath = {json.dumps(str(GOOD))}\nrate = 1000.0\nrepeat = true\n'
        '[trigger]\nsource = "free"\n[health]\nfrozen = 0\n'
    )
    command = [str(BINARY), "run", "--config", str(config), "--seconds", str(SECONDS), "--json"]
    memory = []
    with (folder / "parts.jsonl").open("w+") as parts, (folder / "said.txt").open("w+") as said:
        service = subprocess.Popen(command, stdout=parts, stderr=said)
        while True:
            try:
                service.wait(max(1, SECONDS / 12))
                break
            except subprocess.TimeoutExpired:
                used = used_memory()
                memory += [] if used is None else [used]
        parts.seek(0)
        said.seek(0)
        if service.returncode not in (0, 1):
            print(said.read()[-2000:])
        return [json.loads(line) for line in parts], memory


def main() -> None:
    os.environ["ORT_DYLIB_PATH"] = str(library().resolve())
    if not GOOD.is_dir():
        sys.exit(f"there is no folder {GOOD}: run `make demo`, or name pictures of good parts in GOOD")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wanted = providers()
        for name, enrolling in PACKAGES.items():
            package = folder / f"{name.replace(' ', '-')}.weakrest"
            ran = weakrest("enroll", "--images", GOOD, "--output", package, "--provider", "cpu", *enrolling)
            check(f"{name}: enrolled", ran.returncode == 0, ran.stderr.strip())
            for provider in wanted:
                what = f"{name} on {provider}"
                ran = weakrest("check", package, "--provider", provider)
                networks = [line for line in ran.stdout.splitlines() if line.startswith("network ")]
                on = [line for line in networks if line.endswith(f"runs on {provider}")]
                whole = ran.returncode == 0 and bool(networks) and on == networks
                check(f"{what}: every network", whole, ran.stderr.strip())
                ran = weakrest("bench", package, "--images", GOOD, "--provider", f"{provider},cpu", "--json")
                if ran.returncode:
                    check(f"{what}: timed", False, ran.stderr.strip())
                    continue
                report = json.loads(ran.stdout)
                first = report["providers"][0] if "providers" in report else report
                difference = first.get("score_difference") or 0.0
                check(f"{what}: the CPU's scores", difference <= LARGEST_DIFFERENCE, f"{difference:.1e}")
                options = ["--images", GOOD, "--provider", provider, "--no-graphs", "--json"]
                ran = weakrest("bench", package, *options)
                check(f"{what}: timed without graphs", ran.returncode == 0, ran.stderr.strip())
                plain = medians(json.loads(ran.stdout)) if ran.returncode == 0 else {}
                parts, memory = run_service(folder, package, provider)
                judged = [part for part in parts if part["verdict"] != "fault"]
                check(f"{what}: no fault", len(judged) == len(parts) > 0, f"{len(parts)} parts")
                names = {part["provider"] for part in judged}
                check(f"{what}: the provider of every part", names == {provider}, names)
                growth = memory[-1] - memory[len(memory) // 3] if memory else 0
                check(f"{what}: memory of the device", growth <= LARGEST_GROWTH, f"{growth:+} MiB")
                rows.append((name, provider, len(parts) / SECONDS, medians(first), plain, difference))
                latency = [part["latency_ms"] for part in judged if part.get("latency_ms") is not None]
                if latency:
                    print(f"        latency {statistics.median(latency):.1f} ms (median)")
    print("\n| package | provider | parts/s | features, residuals, classify ms | without graphs | differ |")
    print("|---|---|---|---|---|---|")
    for name, provider, rate, *both, difference in rows:
        times = [", ".join(f"{of[stage]:.2f}" for stage in STAGES) if of else "failed" for of in both]
        print(f"| {name} | {provider} | {rate:.0f} | {' | '.join(times)} | {difference:.1e} |")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
