"""A board in QEMU, and hands, eyes and wires outside of it."""

import base64
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from image import Image

# What `timeout` ends with.
TOO_LONG = 124


class BoardError(Exception):
    """The board did not do what it must."""


class Edge(NamedTuple):
    """A change of an output line, seen from outside."""

    at: float  # seconds since 1970, by this machine's clock
    level: bool


class Answer(NamedTuple):
    """What a command on the board came to."""

    status: int
    text: str


class Connection:
    """Lines of text to and from a socket of QEMU's."""

    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.heard = b""

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def hear(self, seconds: float = 10) -> str:
        """The next line. `TimeoutError` when there is none, `ConnectionError` when QEMU is gone."""
        until = time.monotonic() + seconds
        while b"\n" not in self.heard:
            self.socket.settimeout(max(until - time.monotonic(), 0.001))
            news = self.socket.recv(65536)
            if not news:
                raise ConnectionError("QEMU is gone")
            self.heard += news
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode(errors="replace").strip()


class Machine:
    """QEMU's `virt` board with arm64 cores that are computed, not this machine's own.

    Its GPIO chip is a PL061 with eight lines. Outputs are read from QEMU's trace of that device, inputs are
    driven through QEMU's test protocol: the guest has no part in either.
    """

    def __init__(self, image: Image, folder: Path, share: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.share = share
        self.console = folder / "console.log"
        self.trace = folder / "lines.log"
        for log in [self.console, self.trace]:
            log.unlink(missing_ok=True)
        # Paths of sockets must be short.
        self.sockets = tempfile.TemporaryDirectory(prefix="board-")
        at = Path(self.sockets.name)
        self.qemu = subprocess.Popen(
            [
                *["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a76", "-accel", "tcg,thread=multi"],
                *["-smp", "2", "-m", "1024", "-kernel", image.kernel, "-initrd", image.initrd],
                *["-append", "console=ttyAMA0 rw quiet panic=-1 systemd.show_status=0"],
                # What is written is gone with the machine.
                *["-drive", f"file={image.disk},if=virtio,format=raw,snapshot=on"],
                *["-virtfs", f"local,path={share},mount_tag=share,security_model=none"],
                *[
                    "-device",
                    "virtio-serial",
                    "-chardev",
                    f"socket,id=agent,path={at}/agent,server=on,wait=off",
                ],
                *["-device", "virtserialport,chardev=agent,name=board"],
                *["-display", "none", "-serial", f"file:{self.console}", "-no-reboot", "-net", "none"],
                *["-monitor", "none", "-qmp", f"unix:{at}/qmp,server=on,wait=off"],
                *["-qtest", f"unix:{at}/qtest,server=on,wait=off", "-qtest-log", "none"],
                *["-msg", "timestamp=on", "-trace", "pl061_set_output", "-D", self.trace],
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Else a full pipe would stop the machine.
        self.complaints: list[str] = []
        threading.Thread(target=lambda: self.complaints.extend(self.qemu.stderr or []), daemon=True).start()
        try:
            self.qmp = self._connect(at / "qmp")
            self.qmp.hear()
            self._ask_qemu("qmp_capabilities")
            self.wires = self._connect(at / "qtest")
            self.agent = self._connect(at / "agent")
            found = self._ask_qemu("qom-list", path="/machine/unattached")
            self.gpio = next(f"/machine/unattached/{c['name']}" for c in found if c["type"] == "child<pl061>")
        except BaseException:
            self.end()
            raise

    def _connect(self, path: Path) -> Connection:
        until = time.monotonic() + 10
        while True:
            try:
                return Connection(path)
            except OSError as e:
                if self.qemu.poll() is not None or time.monotonic() > until:
                    raise BoardError(f"QEMU does not start: {e}\n{''.join(self.complaints)}") from e
                time.sleep(0.05)

    def _ask_qemu(self, command: str, **arguments: str) -> Any:
        self.qmp.send(json.dumps({"execute": command, "arguments": arguments}))
        while True:
            answer = json.loads(self.qmp.hear())
            if "error" in answer:
                raise BoardError(f"QEMU refuses {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def set_input(self, line: int, level: bool) -> None:
        """Drives an input of the GPIO chip."""
        self.wires.send(f"set_irq_in {self.gpio} unnamed-gpio-in {line} {int(level)}")
        answer = self.wires.hear()
        if answer != "OK":
            raise BoardError(f"QEMU does not drive line {line}: {answer}")

    def edges(self, line: int) -> list[Edge]:
        """All changes of an output of the GPIO chip so far."""
        pattern = re.compile(
            rf"@(\d+\.\d+):pl061_set_output {re.escape(self.gpio)} .* {line} to ([01])$", re.MULTILINE
        )
        return [Edge(float(at), level == "1") for at, level in pattern.findall(self.trace.read_text())]

    def level(self, line: int) -> bool:
        """An output's present level."""
        return self.edges(line)[-1].level

    def wait_for_boot(self, seconds: float) -> None:
        self._hear(seconds, "the board does not start")

    def ask(self, command: str, seconds: float = 600) -> Answer:
        """Runs a command on the board, as root."""
        self.agent.send(f"{seconds:.0f} {base64.b64encode(command.encode()).decode()}")
        # The board ends what takes too long, and still answers.
        status, text = self._hear(seconds + 60, f"no answer to {command!r}").split(" ")
        answer = Answer(int(status), base64.b64decode(text).decode(errors="replace").strip())
        if answer.status == TOO_LONG:
            raise BoardError(f"{command!r} takes more than {seconds:.0f} s:\n{answer.text}")
        return answer

    def run(self, command: str, seconds: float = 600) -> str:
        """What a command prints that must succeed."""
        answer = self.ask(command, seconds)
        if answer.status != 0:
            raise BoardError(f"{command!r} ended with {answer.status}:\n{answer.text}")
        return answer.text

    def try_to_ask(self, command: str) -> str:
        """What a command prints, or why it does not, when something is wrong already."""
        try:
            return self.ask(command, 20).text
        except BoardError as e:
            return str(e)

    def _hear(self, seconds: float, otherwise: str) -> str:
        try:
            return self.agent.hear(seconds)
        except TimeoutError as e:
            raise BoardError(f"{otherwise} within {seconds:.0f} s") from e
        except OSError as e:
            raise BoardError(f"{otherwise}: {e}\n{''.join(self.complaints)}") from e

    def computed(self) -> float:
        """Seconds that this machine's processors spent on the board, whatever else they did meanwhile."""
        fields = Path(f"/proc/{self.qemu.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Takes the power away."""
        self.qemu.kill()
        self.qemu.wait()
        self.sockets.cleanup()
