"""Several inspectors on one machine, one camera each: `make cameras CAMERAS=4 SECONDS=60 SHARE=0.8`.

Each is a service of its own with its own configuration, package, journal and simulated camera. First all run
as fast as they can: that is the machine's rate. Then each gets its part of `SHARE` of that rate. Ends with an
error if a part has no verdict, is a fault, or is missing in a journal, or a frame was dropped.
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/weakrest"
DEMO = ROOT / "target/demo"


def configuration(folder: Path, rate: float) -> Path:
    """Configuration of an inspector in a folder of its own."""
    pictures = DEMO / "pictures/brick/test/good"
    text = f"""
[inspection]
package = "{DEMO / "brick.weakrest"}"
threads = 1
[camera]
kind = "folder"
path = "{pictures}"
rate = {rate:.3f}
[health]
frozen = 0
[line]
travel_ms = 2000.0
[journal]
path = "{folder / "journal.sqlite"}"
[pictures]
folder = "{folder / "kept"}"
"""
    path = folder / "weakrest.toml"
    path.write_text(text)
    return path


def run(folder: Path, rate: float, cameras: int, seconds: int) -> list[list[dict]]:
    """The parts of each inspector."""
    services = []
    for camera in range(cameras):
        own = folder / f"{rate:.0f}-{camera}"
        own.mkdir()
        command = [PROGRAM, "run", "--config", configuration(own, rate), "--json", "--seconds", str(seconds)]
        log = (own / "log").open("w")
        output = (own / "parts").open("w")
        services.append((own, subprocess.Popen(command, stdout=output, stderr=log)))
    parts = []
    for own, service in services:
        if service.wait() != 0:
            sys.exit((own / "log").read_text())
        parts.append([json.loads(line) for line in (own / "parts").read_text().splitlines()])
    return parts


def at(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(int(len(sorted_values) * share), len(sorted_values) - 1)]


def main() -> None:
    cameras, seconds = int(os.environ.get("CAMERAS", "4")), int(os.environ.get("SECONDS", "60"))
    share = float(os.environ.get("SHARE", "0.8"))
    if not (DEMO / "brick.weakrest").is_dir():
        sys.exit("target/demo is missing; run `make demo` first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full = sum(map(len, run(folder, 200.0, cameras, 15))) / 15
        print(f"{cameras} cameras at once: {full:.1f} parts/s together at full rate", flush=True)
        rate = full * share / cameras
        everything = run(folder, rate, cameras, seconds)
        wrong = 0
        for camera, parts in enumerate(everything):
            own = folder / f"{rate:.0f}-{camera}"
            faults = [part for part in parts if part["fault"] is not None]
            numbers = [part["part"] for part in parts]
            latencies = sorted(part["latency_ms"] for part in parts)
            with closing(sqlite3.connect(own / "journal.sqlite")) as journal:
                (rows,) = journal.execute("SELECT count(*) FROM parts").fetchone()
            missing = numbers != list(range(1, len(numbers) + 1)) or rows != len(numbers)
            few = len(parts) < rate * seconds * 0.97
            print(
                f"camera {camera + 1}: {len(parts)} parts of {rate * seconds:.0f} frames, "
                f"{len(faults)} faults, latency {at(latencies, 0.5):.0f} ms (median), "
                f"{at(latencies, 0.99):.0f} (99 %), {latencies[-1]:.0f} (longest), {rows} in the journal"
            )
            wrong += len(faults) + missing + few
    if wrong:
        sys.exit("a part is missing or a fault")


if __name__ == "__main__":
    main()
