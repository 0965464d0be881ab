"""The life of a board beside a line: `make board-test`.

Debian for arm64 starts in QEMU, weakrest's package is installed as a customer would, and pictures of parts
pass a V4L2 camera. The light barrier's line is driven, and the gate's lines are read, from outside the board.
How long anything takes there says nothing: an emulated processor is slow. Order, counts and verdicts are what
count.
"""

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from formats import FORMATS
from image import Image, missing_packages
from machine import BoardError, Machine
from pictures import Frames, frame_of, read_png

BARRIER, REJECT, HEALTHY = 4, 5, 6
RECIPE = 1, 2  # the lines of its number's bits
ENROLLED = 20
PICTURES = 8  # of each kind
# Small enough for a processor that is computed itself.
ENROLLING = "--quality fast --size 128 --coreset-floor 1000"
CHECK = "weakrest check --config /etc/weakrest/weakrest.toml"
AS_SERVICE = "setpriv --reuid weakrest --regid weakrest --init-groups"
# For whatever takes long only when something is wrong, or on a machine that has other things to do.
PATIENCE = 600.0

CONFIGURATION = """
[inspection]
package = "/var/lib/weakrest/product.weakrest"

[camera]
kind = "v4l2"
device = "/dev/video0"
format = "{format}"
width = {width}
height = {height}

[trigger]
source = "gpio"
chip = "/dev/gpiochip0"
line = {barrier}
# The camera says that it is faster than it is.
frame_within_ms = {frame_within_ms}

[line]
chip = "/dev/gpiochip0"
reject = {reject}
healthy = {healthy}
travel_ms = {travel_ms}
pulse_ms = {pulse_ms}
# No processor that is computed itself is in time.
tolerance_ms = {tolerance_ms}

[recipes]
folder = "/var/lib/weakrest/recipes"

[recipes.bits]
chip = "/dev/gpiochip0"
lines = [1, 2]

[pipeline]
camera_timeout_ms = {camera_timeout_ms}
stall_ms = 60000

[journal]
path = "/var/lib/weakrest/journal.sqlite"

[web]
listen = "127.0.0.1:8080"
"""

# No package is needed to take a picture.
FORMAT = """
[inspection]
package = "/var/lib/weakrest/none.weakrest"

[web]
listen = "127.0.0.1:8081"

[trigger]
source = "free"

[camera]
kind = "v4l2"
device = "/dev/video9"
format = "{name}"
width = 320
height = 180
"""


def must(holds: bool, what: str) -> None:
    if not holds:
        raise BoardError(what)


class Sent(NamedTuple):
    """A part that was sent past the light barrier."""

    at: float
    picture: str
    verdict: str  # what it must get


class Parts(NamedTuple):
    """The names of pictures, and what they are for a camera."""

    good: list[str]
    bad: list[str]
    frames: Frames


class Story:
    """What happens, in order."""

    def __init__(self, machine: Machine, parts: Parts):
        self.board = machine
        # Not the order of any list, but the same in every run.
        shuffle = random.Random(7)
        self.good, self.bad = (shuffle.sample(names, len(names)) for names in (parts.good, parts.bad))
        self.frames = parts.frames
        self.shuffle = shuffle
        # A list of parts for each run of the service.
        self.runs: list[list[Sent]] = []
        # When the gate began to reject what only a service that was killed knew of.
        self.unknown: list[float] = []
        self.killed = 0.0
        # In seconds, and set when it is known how fast this board is: from the light barrier to the gate; the
        # least between two parts, so that a late pulse still tells whose it is; the gate's pulse.
        self.travel = self.distance = self.pulse = 0.0

    # What the line does.

    def send(self, verdict: str) -> None:
        """Sends a part past the camera and the light barrier, and waits until its verdict is known."""
        sent = self.runs[-1]
        picture = "none"
        if verdict != "fault":
            names = self.good if verdict == "pass" else self.bad
            picture = names.pop(0)
            names.append(picture)
            self.show(picture)
        if sent:
            time.sleep(max(0.0, sent[-1].at + self.distance - time.time()))
        sent.append(Sent(time.time(), picture, verdict))
        self.board.set_input(BARRIER, True)
        time.sleep(0.05)
        self.board.set_input(BARRIER, False)
        self.until(lambda: self.ask("parts")["next"] >= len(sent), f"part {len(sent)} gets no verdict")

    def show(self, picture: str) -> None:
        path = f"/mnt/share/frames/{picture}"
        self.board.run(
            f"ln -sfn {path} /run/board/next; mv -T /run/board/next /run/board/picture\n"
            f'for i in $(seq 300); do [ "$(cat /run/board/shown)" = {path} ] && exit; sleep 0.1; done\n'
            "echo the camera does not show it; exit 1"
        )

    def ask(self, what: str) -> dict:
        """What the service's web page knows."""
        paths = {"parts": "api/parts", "status": "api/status"}
        return json.loads(self.board.run(f"curl -s --max-time 20 http://localhost:8080/{paths[what]}"))

    def until(self, holds, otherwise: str) -> None:
        limit = time.monotonic() + PATIENCE
        while not holds():
            must(time.monotonic() < limit, f"{otherwise} within {PATIENCE:.0f} s")
            time.sleep(0.2)

    def until_operational(self) -> None:
        def operational() -> bool:
            answer = self.board.ask("curl -s --max-time 20 http://localhost:8080/healthz")
            return answer.status == 0 and json.loads(answer.text)["state"] == "Operational"

        self.until(operational, "the service does not become operational")

    def pass_the_gate(self) -> None:
        """Waits until the last part is past the gate, and compares the pulses with the parts."""
        last = self.runs[-1][-1].at + self.travel + self.pulse + self.distance
        time.sleep(max(0.0, last - time.time()))
        parts = [part for run in self.runs for part in run]
        rejected = []
        for edge in self.board.edges(REJECT):
            # That of the last part that can have come to the gate.
            if edge.level and edge.at not in self.unknown:
                arrived = [n for n, part in enumerate(parts, 1) if part.at + self.travel <= edge.at]
                must(bool(arrived), "the gate rejects before any part is there")
                rejected.append(arrived[-1])
        expected = [n for n, part in enumerate(parts, 1) if part.verdict != "pass"]
        must(rejected == expected, f"parts {rejected} were rejected instead of {expected}")
        must(not self.board.level(REJECT), "the gate still rejects")

    # The story.

    def install(self) -> None:
        board = self.board
        board.run("dpkg -i /mnt/share/weakrest.deb")
        board.run("man -w weakrest && man -w weakrest-run")
        enabled = board.ask("systemctl is-enabled weakrest").text
        must(enabled == "disabled", f"the service is {enabled} before anything is enrolled")
        must(" gpio " in board.run("ls -l /dev/gpiochip0"), "the GPIO chip is not the group gpio's")

    def enroll(self) -> None:
        begin = time.monotonic()
        self.board.run(
            "weakrest enroll --images /mnt/share/good --output /var/lib/weakrest/product.weakrest"
            f" --product part {ENROLLING}"
        )
        self.configure((time.monotonic() - begin) / ENROLLED)

    def configure(self, pace: float) -> None:
        """Times for a board that took so many seconds for each picture."""
        self.travel, self.distance = max(4.0, 4 * pace), max(1.6, pace)
        self.pulse = self.distance / 4
        configuration = CONFIGURATION.format(
            format={"YUYV": "yuyv", "MJPG": "mjpeg"}[self.frames.pixels],
            width=self.frames.width,
            height=self.frames.height,
            barrier=BARRIER,
            frame_within_ms=900 * self.distance,
            reject=REJECT,
            healthy=HEALTHY,
            travel_ms=1000 * self.travel,
            pulse_ms=1000 * self.pulse,
            tolerance_ms=499 * self.pulse,
            camera_timeout_ms=round(1000 * self.travel),
        )
        (self.board.share / "weakrest.toml").write_text(configuration)

    def check(self) -> None:
        board = self.board
        board.run("mkdir -p /run/board; systemctl start board-camera")
        self.show(self.good[0])
        board.run("mkdir -p /var/lib/weakrest/recipes")
        board.run("cp /mnt/share/weakrest.toml /etc/weakrest/weakrest.toml")
        text = board.run(f"{AS_SERVICE} {CHECK}")
        for needed in [
            "package",
            f"camera         gives {self.frames.width}×{self.frames.height}",
            f"reject line    {REJECT}",
            "all is well",
        ]:
            must(needed in text, f"the check does not say {needed!r}:\n{text}")

    def start(self) -> None:
        board = self.board
        board.run("systemctl enable --now weakrest")
        self.runs.append([])
        self.until_operational()
        process = "/proc/$(systemctl show weakrest -P MainPID)"
        policy = board.run(
            f"for task in {process}/task/*; do\n"
            '[ "$(cat $task/comm)" = driver ] && cut -d" " -f41 $task/stat\n'
            "done; :"
        )
        must(policy.strip() == "1", f"the gate's driver is not SCHED_FIFO (1): {policy!r}")
        locked = board.run(f"grep VmLck {process}/status").split()[1]
        must(int(locked) > 0, "the service's memory is not locked")
        verdict = board.run("systemd-analyze security --no-pager weakrest | tail -n 1")
        print(f"    {verdict.strip()}")

    def parts(self) -> None:
        """Good and bad parts in an order that nobody chose."""
        verdicts = ["pass"] * 8 + ["reject"] * 8
        self.shuffle.shuffle(verdicts)
        fed = self.watchdog_fed()
        toggled = len(self.board.edges(HEALTHY))
        begin = time.time()
        for verdict in verdicts:
            self.send(verdict)
        self.pass_the_gate()
        seconds = time.time() - begin
        toggled = len(self.board.edges(HEALTHY)) - toggled
        # Ten edges a second where time is real.
        must(toggled > seconds, f"the healthy line toggled only {toggled} times in {seconds:.0f} s")
        must(self.watchdog_fed() != fed, "systemd's watchdog is not fed")
        print(f"    {len(verdicts)} parts, {toggled} edges of the healthy line in {seconds:.0f} s")

    def watchdog_fed(self) -> str:
        return self.board.run("systemctl show weakrest -P WatchdogTimestampMonotonic")

    def kill(self) -> None:
        """Killed in the middle of a pulse."""
        board = self.board
        self.kill_in_a_pulse(
            # It waits for a second before it starts again.
            then="until systemctl show weakrest -P SubState -P NRestarts | grep -q 'auto-restart\\|1'\n"
            "do :; done"
        )
        must(not board.level(REJECT) and not board.level(HEALTHY), "a killed service leaves its lines high")
        self.runs.append([])
        self.until_operational()
        must(
            board.run("systemctl show weakrest -P NRestarts") == "1",
            "systemd did not restart the service once",
        )
        self.reject_the_unknown()
        for verdict in ["pass", "reject"]:
            self.send(verdict)
        self.pass_the_gate()

    def kill_in_a_pulse(self, before: str = ":", then: str = ":") -> None:
        self.send("reject")
        self.board.run(
            "pid=$(systemctl show weakrest -P MainPID)\n"
            # The kernel's own table of lines is quicker than anybody outside.
            f"line=gpio-$(($(cat /sys/class/gpio/gpiochip*/base | head -n 1) + {REJECT}))\n"
            'until grep -q "$line .*out hi" /sys/kernel/debug/gpio; do :; done\n'
            f"{before}\n"
            "kill -9 $pid\n"
            f"{then}"
        )
        self.killed = time.time()

    def reject_the_unknown(self) -> None:
        """A service that starts after one that was killed rejects what only that one knew of."""
        rising = [edge.at for edge in self.board.edges(REJECT) if edge.level]
        must(rising[-1] > self.killed, "nothing is rejected after a kill")
        self.unknown.append(rising[-1])
        self.until(lambda: not self.board.level(REJECT), "the gate rejects without end after a kill")

    def kill_beside_another_configuration(self) -> None:
        """Killed in the middle of a pulse, when the configuration no longer names the lines that are held."""
        board, file = self.board, "/etc/weakrest/weakrest.toml"
        for change in [
            f"sed -i 's/^reject = {REJECT}$/reject = 7/; /^healthy = /d' {file}",
            f"echo '[line' > {file}",
        ]:
            self.kill_in_a_pulse(before=change)
            self.until(self.both_low, f"a killed service's lines stay high after {change!r}")
            board.run(f"cp /mnt/share/weakrest.toml {file}; systemctl restart weakrest")
            self.runs.append([])
            self.until_operational()
            self.reject_the_unknown()
            for verdict in ["reject", "pass"]:
                self.send(verdict)
            self.pass_the_gate()

    def both_low(self) -> bool:
        return not self.board.level(REJECT) and not self.board.level(HEALTHY)

    def lose_the_camera(self) -> None:
        board = self.board
        board.run(
            "systemctl stop board-camera\n"
            "for i in $(seq 300); do modprobe -r v4l2loopback 2>/dev/null && exit; sleep 0.1; done; exit 1"
        )
        must(board.ask("ls /dev/video0").status != 0, "the camera is still there")
        self.until(lambda: self.ask("status")["state"] == "Error", "nobody misses the camera")
        time.sleep(0.5)
        toggled = len(board.edges(HEALTHY))
        self.send("fault")
        must(len(board.edges(HEALTHY)) == toggled, "the healthy line toggles without a camera")
        board.run("systemctl start board-camera")
        self.until_operational()
        must(self.ask("status")["camera_losses"] > 0, "no loss of the camera is counted")
        for verdict in ["reject", "pass"]:
            self.send(verdict)
        self.pass_the_gate()

    def refuse_a_package(self) -> None:
        board = self.board
        board.run(
            "cd /var/lib/weakrest && cp -r product.weakrest damaged.weakrest && cd damaged.weakrest\n"
            "printf '\\377' | dd of=bank-1.safetensors bs=1 seek=100000 conv=notrunc status=none\n"
            "sed -i s/product.weakrest/damaged.weakrest/ /etc/weakrest/weakrest.toml\n"
            "systemctl reload weakrest"
        )

        def told() -> bool:
            return "configuration" in self.ask("status")["problems"]

        self.until(told, "nothing is said of a damaged package")
        print(f"    {self.ask('status')['problems']['configuration']['text']}")
        for verdict in ["pass", "reject"]:
            self.send(verdict)
        board.run(
            "sed -i s/damaged.weakrest/product.weakrest/ /etc/weakrest/weakrest.toml\n"
            "systemctl reload weakrest"
        )
        self.until(lambda: not told(), "the warning stays")
        for verdict in ["reject", "pass"]:
            self.send(verdict)
        self.pass_the_gate()

    def choose_recipes(self) -> None:
        """By the levels of digital lines, one of which is late."""
        board = self.board
        board.run(
            "cd /var/lib/weakrest\n"
            "for name in 1-first 2-second; do cp -r product.weakrest recipes/$name.weakrest; done\n"
            "chown -R weakrest: recipes"
        )
        for levels, recipe in [
            ((True, False), 1),
            ((False, True), 2),
            ((False, False), 2),
            ((True, False), 1),
        ]:
            for line, level in zip(RECIPE, levels, strict=True):
                board.set_input(line, level)
            self.until(lambda wanted=recipe: self.recipe() == wanted, f"recipe {recipe} is not taken")
            for verdict in ["reject", "pass"]:
                self.send(verdict)
            self.pass_the_gate()
            must(self.recipe() == recipe, f"recipe {recipe} does not stay")

    def recipe(self) -> int:
        number: int = self.ask("status")["engine"]["recipe"]
        return number

    def every_format(self) -> None:
        """A camera with memory planes and without: weakrest's pixels against what v4l2-ctl got."""
        board, share = self.board, self.board.share
        camera = "v4l2-ctl -d /dev/video9"
        compared: list[str] = []
        for planes in ["single", "multi"]:
            board.run(
                f"modprobe vivid n_devs=1 vid_cap_nr=9 node_types=1 num_inputs=1 input_types=0 "
                f"multiplanar={1 + (planes == 'multi')}\n"
                # A still picture: no text that counts.
                f"udevadm settle; {camera} --set-ctrl=osd_text_mode=2"
            )
            has = board.run(f"{camera} --list-formats")
            for name, codes, meaning in FORMATS:
                # Not every kernel has every format.
                code = next((code for code in codes if f"'{code}'" in has), None)
                if code is None:
                    continue
                raw = f"/mnt/share/{planes}.raw"
                board.run(
                    f"rm -f {raw}; {camera} --set-fmt-video=width=320,height=180,pixelformat='{code}' "
                    f"--stream-mmap=3 --stream-count=1 --stream-to={raw}"
                )
                (share / "formats.toml").write_text(FORMAT.format(name=name))
                shot = "--picture /mnt/share/formats.png"
                text = board.run(f"weakrest check --config /mnt/share/formats.toml {shot}; sync")
                must("picture in" in text, f"{name}: {text}")
                width, height, channels, pixels = read_png(share / "formats.png")
                must((width, height) == (320, 180), f"{name} has {width}×{height} pixels")
                wanted = list(meaning((share / f"{planes}.raw").read_bytes(), width, height))
                must(len(wanted[0]) == channels, f"{name} has {channels} channels")
                values = [value for pixel in wanted for value in pixel]
                worst = max(abs(a - b) for a, b in zip(pixels, values, strict=True))
                must(worst < 1.6, f"{name} ({planes}, {code}) differs by {worst:.1f}")
                compared.append(f"{code.strip()} ({planes})")
            board.run("modprobe -r vivid")
        must(len(compared) >= 20, f"only {compared} were compared")
        print(f"    {len(compared)}: {', '.join(compared)}")

    def stop(self) -> None:
        board = self.board
        board.run("systemctl stop weakrest")
        must(not board.level(REJECT) and not board.level(HEALTHY), "a stopped service leaves its lines high")
        result = board.run("systemctl show weakrest -P Result")
        must(result == "success", f"the service did not stop cleanly: {result}")
        text = board.run(CHECK)
        count = sum(map(len, self.runs))
        needed = f"{count} parts in {len(self.runs)} runs, 0 duplicate, 0 missing"
        must(needed in text, f"the check does not say {needed!r}:\n{text}")
        must(not board.level(REJECT) and not board.level(HEALTHY), "a check leaves lines high")

    def read_the_journal(self) -> None:
        self.board.run("cp /var/lib/weakrest/journal.sqlite* /mnt/share/; sync")
        connection = sqlite3.connect(self.board.share / "journal.sqlite")
        rows = connection.execute(
            "SELECT run, part, verdict, fault FROM parts ORDER BY triggered, part"
        ).fetchall()
        names = list(dict.fromkeys(row[0] for row in rows))
        found = [[(part, verdict) for run, part, verdict, _ in rows if run == name] for name in names]
        expected = [[(n, part.verdict) for n, part in enumerate(run, 1)] for run in self.runs]
        must(found == expected, f"the journal has\n{found}\ninstead of\n{expected}")
        faults = [row[3] for row in rows if row[2] == "fault"]
        must(faults == ["camera"], f"the journal's faults are {faults}")
        print(f"    {len(rows)} rows in {len(names)} runs, one for each part")


def prepare(parts: Path, kinds: list[str], share: Path, package: Path) -> Parts:
    """Puts everything that the board needs into the folder that it sees."""
    for folder in ["good", "frames"]:
        (share / folder).mkdir(parents=True)
    shutil.copy(package, share / "weakrest.deb")
    enrolled = sorted((parts / "train/good").iterdir())[:ENROLLED]
    must(len(enrolled) == ENROLLED, f"{parts}/train/good has fewer than {ENROLLED} pictures")
    for picture in enrolled:
        shutil.copy(picture, share / "good")
    found = set()
    names: dict[str, list[str]] = {}
    for kind in ["good", *kinds]:
        names[kind] = []
        for picture in sorted((parts / "test" / kind).iterdir())[:PICTURES]:
            name = f"{kind}-{picture.stem}"
            frames, data = frame_of(picture)
            found.add(frames)
            (share / "frames" / name).write_bytes(data)
            names[kind].append(name)
    must(len(found) == 1, f"a camera cannot send all of {found}")
    frames = found.pop()
    (share / "camera").write_text(f"width={frames.width},height={frames.height},pixelformat={frames.pixels}")
    return Parts(names["good"], [name for kind in kinds for name in names[kind]], frames)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only-look", action="store_true", help="only say which programs this machine lacks")
    parser.add_argument("--package", type=Path, help="weakrest's package for arm64")
    parser.add_argument("--parts", type=Path, help="pictures in MVTec's layout")
    parser.add_argument("--bad", nargs="+", help="kinds of defects that any inspection must find")
    parser.add_argument("--folder", type=Path, help="where downloads and logs are kept")
    arguments = parser.parse_args()
    missing = missing_packages()
    if missing:
        print(f"board: this machine lacks programs: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    if arguments.only_look:
        return 0
    if None in (arguments.package, arguments.parts, arguments.bad, arguments.folder):
        parser.error("--package, --parts, --bad and --folder are needed")

    begin = time.monotonic()

    machine = None

    def done(what: str, since: float) -> None:
        computed = f", {machine.computed():.0f} s computed so far" if machine else ""
        print(f"board: {what} ({time.monotonic() - since:.0f} s{computed})", flush=True)

    folder = arguments.folder.resolve()
    image = Image(folder / "cache")
    image.make()
    done("kernel and disk are there", begin)
    with tempfile.TemporaryDirectory(prefix="share-", dir=folder) as share:
        try:
            parts = prepare(arguments.parts, arguments.bad, Path(share), arguments.package)
            since = time.monotonic()
            machine = Machine(image, folder, Path(share))
            machine.wait_for_boot(PATIENCE)
            done("Debian is up", since)
            story = Story(machine, parts)
            for chapter, what in [
                (story.install, "the package is installed"),
                (story.enroll, f"{ENROLLED} good pictures are enrolled on the board"),
                (story.check, "the check finds all well"),
                (story.start, "systemd has started the service"),
                (story.parts, "exactly the bad parts were rejected"),
                (story.kill, "killed during a pulse: both lines low, restarted, goes on"),
                (
                    story.kill_beside_another_configuration,
                    "killed with its configuration changed, and broken: both lines low",
                ),
                (
                    story.lose_the_camera,
                    "camera lost and found: the part meanwhile was rejected, others were judged",
                ),
                (story.refuse_a_package, "a damaged package was refused, the old one went on"),
                (story.choose_recipes, "lines chose recipes between parts"),
                (story.stop, "stopped: both lines low"),
                (story.every_format, "many formats, in memory planes or not, are read as by v4l2-ctl"),
                (story.read_the_journal, "the journal has exactly one row for each part"),
            ]:
                since = time.monotonic()
                chapter()
                done(what, since)
        except (BoardError, KeyboardInterrupt) as e:
            print(f"board: FAILED: {e or 'interrupted'}", file=sys.stderr)
            if machine and not isinstance(e, KeyboardInterrupt):
                journal = machine.try_to_ask("journalctl --no-pager -o short-monotonic -n 80")
                print(f"\nThe board's journal:\n{journal}", file=sys.stderr)
                console = machine.console.read_text(errors="replace").splitlines()[-30:]
                print("\nIts console:", *console, sep="\n", file=sys.stderr)
            print(f"\nMore in {folder}: console.log, lines.log", file=sys.stderr)
            return 1
        finally:
            if machine:
                machine.end()
                machine = None
    done("all is well", begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
