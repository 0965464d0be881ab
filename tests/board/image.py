"""The emulated board's kernel and disk: Debian for arm64, put together from packages without running any.

Everything comes through this machine's apt, from the Debian mirror that it is set up with, and is kept in
`target/board/cache`: delete that folder to begin afresh with newer packages.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RELEASE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
GUEST = Path(__file__).with_name("guest")

# What is on the board before weakrest's package comes; their dependencies come with them.
PACKAGES = [
    *["adduser", "apt", "base-files", "base-passwd", "bash", "coreutils", "curl", "dash", "diffutils"],
    *["dpkg", "findutils", "gpiod", "grep", "gzip", "hostname", "init-system-helpers", "kmod", "libc-bin"],
    *["libstdc++6", "login", "man-db", "mawk", "mount", "passwd", "procps", "sed", "systemd", "systemd-sysv"],
    *["tar", "udev", "util-linux", "v4l-utils"],
]
# Modules that the first steps of the boot need, and those that systemd loads.
EARLY_MODULES = ["virtio_pci", "virtio_blk", "ext4"]
LATE_MODULES = ["virtio_console", "9pnet_virtio", "9p", "videodev"]
# Cameras of the kernel, loaded by the test: one whose frames come from a program, and one with every format.
CAMERAS = ["v4l2loopback", "vivid"]
DISK_MEGABYTES = 1000

# Programs of this machine, and the Debian package that each is in.
PROGRAMS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "apt-get": "apt",
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "make": "make",
    "mkfs.ext4": "e2fsprogs",
    "qemu-system-aarch64": "qemu-system-arm",
}


def missing_packages() -> list[str]:
    """Debian packages that this machine needs for the board and does not have."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    needed = dict(PROGRAMS)
    if os.geteuid() != 0:
        needed["fakeroot"] = "fakeroot"
    missing = {package for program, package in needed.items() if not shutil.which(program, path=path)}
    if not KEYRING.is_file():
        missing.add("debian-archive-keyring")
    return sorted(missing)


class Image:
    """Kernel, first file system and disk, in `folder` once `make` has run."""

    def __init__(self, cache: Path):
        # Another image for every change of what it is made by.
        parts = [Path(__file__), *sorted(p for p in GUEST.rglob("*") if p.is_file())]
        name = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in parts)).hexdigest()[:16]
        self.cache = cache
        self.folder = cache / f"image-{name}"
        self.kernel = self.folder / "vmlinuz"
        self.initrd = self.folder / "initrd"
        self.disk = self.folder / "disk.ext4"

    def make(self) -> None:
        """Does nothing when it is there already."""
        if self.disk.is_file():
            return
        for old in self.cache.glob("image-*"):
            shutil.rmtree(old)
        work = self.cache / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        Builder(self.cache, work).build()
        # Complete or not there at all.
        work.rename(self.folder)


def run(*command: object, **options: Any) -> str:
    """What a command prints, as its errors are shown when it fails."""
    environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin", LC_ALL="C")
    options = {"text": True, "env": environment, **options}
    done = subprocess.run([str(c) for c in command], capture_output=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"board: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Builder:
    def __init__(self, cache: Path, work: Path):
        self.apt = cache / "apt"
        self.work = work
        self.root = work / "root"

    def build(self) -> None:
        self.set_up_apt()
        image = self.newest_kernel()
        self.version = image.removeprefix("linux-image-")
        series = ".".join(self.version.split(".")[:2])
        kernel = self.download(
            f"{image}:arm64",
            f"linux-headers-{self.version}:arm64",
            f"linux-headers-{self.version.removesuffix('-arm64')}-common",
            f"linux-kbuild-{series}",
            "v4l2loopback-dkms",
            "busybox-static:arm64",
        )
        for package in kernel:
            run("dpkg-deb", "-x", package, self.work / "kernel")
        modules = self.work / "kernel/lib/modules" / self.version
        shutil.copy(self.camera_module(), modules / "kernel")
        run("depmod", "-b", self.work / "kernel", self.version)
        shutil.copy(self.work / f"kernel/boot/vmlinuz-{self.version}", self.work / "vmlinuz")
        self.make_initrd()
        packages = self.download_with_dependencies(PACKAGES)
        self.assemble(packages)
        for leftover in ["initrd-tree", "kernel", "nothing", "packages"]:
            shutil.rmtree(self.work / leftover)

    def set_up_apt(self) -> None:
        """An apt of its own, for two architectures, that leaves this machine's alone."""
        for folder in ["lists/partial", "archives/partial"]:
            (self.apt / folder).mkdir(parents=True, exist_ok=True)
        targets = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)")
        mirrors: dict[bool, str] = {}
        for line in targets.splitlines():
            origin, codename, uri = line.split("|", 2)
            if origin == "Debian":
                mirrors.setdefault(codename.endswith("-security"), uri)
        if False not in mirrors:
            raise SystemExit("board: apt knows no Debian mirror: `apt-get update` first, on Debian")
        suites = [(mirrors[False], RELEASE)]
        if True in mirrors:
            suites.append((mirrors[True], f"{RELEASE}-security"))
        sources = "".join(f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for uri, suite in suites)
        (self.apt / "sources.list").write_text(sources)
        (self.apt / "apt.conf").write_text(
            f"""
            APT::Sandbox::User "";
            Acquire::Languages "none";
            Dir::State::Lists "{self.apt}/lists";
            Dir::State::status "/dev/null";
            Dir::State::extended_states "{self.apt}/extended_states";
            Dir::Cache "{self.apt}";
            Dir::Etc::SourceList "{self.apt}/sources.list";
            Dir::Etc::SourceParts "/dev/null";
            """
        )
        self.apt_get("update")

    def apt_command(self, program: str, *arguments: object, board_only: bool = False, **options: Any) -> str:
        # The compiler's helpers run on this machine, all else on the board.
        own = run("dpkg", "--print-architecture").strip()
        known = ["arm64"] if board_only else [own, "arm64"]
        settings = ["-o", f"APT::Architecture={known[0]}", *(f"-oAPT::Architectures::={a}" for a in known)]
        return run(program, "-qq", "-c", self.apt / "apt.conf", *settings, *arguments, **options)

    def apt_get(self, *arguments: object, **options: Any) -> str:
        return self.apt_command("apt-get", *arguments, **options)

    def newest_kernel(self) -> str:
        depends = self.apt_command("apt-cache", "depends", "linux-image-arm64:arm64")
        names = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
        return names[0].removesuffix(":arm64")

    def download(self, *packages: str) -> list[Path]:
        folder = self.work / "packages"
        folder.mkdir()
        self.apt_get("download", *packages, cwd=folder)
        return sorted(folder.glob("*.deb"))

    def download_with_dependencies(self, packages: list[str]) -> list[Path]:
        install = ["--no-install-recommends", "install", *packages]
        # Only what is not there already is listed.
        nothing = self.work / "nothing"
        (nothing / "partial").mkdir(parents=True)
        uris = self.apt_get("--print-uris", f"-oDir::Cache::archives={nothing}/", *install, board_only=True)
        self.apt_get("--download-only", "--yes", *install, board_only=True)
        return [self.apt / "archives" / line.split()[1] for line in uris.splitlines() if line.startswith("'")]

    def camera_module(self) -> Path:
        """v4l2loopback: a camera whose frames come from a program."""
        sources = self.work / "kernel/usr/src"
        headers = sources / f"linux-headers-{self.version}"
        makefile = headers / "Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src", str(sources)))
        module = next(sources.glob("v4l2loopback-*"))
        run(
            *["make", "-C", headers, f"M={module}", "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"],
            *["CC=aarch64-linux-gnu-gcc", "modules"],
        )
        return module / "v4l2loopback.ko"

    def modules(self, names: list[str]) -> list[Path]:
        """Modules and those that they need, in the order of loading."""
        files: dict[Path, None] = {}
        for name in names:
            shown = run("modprobe", "-d", self.work / "kernel", "-S", self.version, "--show-depends", name)
            for line in shown.splitlines():
                kind, path = line.split()[:2]
                if kind == "insmod":
                    files[Path(path)] = None
        return list(files)

    def make_initrd(self) -> None:
        tree = self.work / "initrd-tree"
        for folder in ["bin", "dev", "new", "modules"]:
            (tree / folder).mkdir(parents=True)
        shutil.copy(self.work / "kernel/bin/busybox", tree / "bin/busybox")
        shutil.copy(GUEST / "init", tree / "init")
        (tree / "init").chmod(0o755)
        for number, module in enumerate(self.modules(EARLY_MODULES)):
            shutil.copy(module, tree / f"modules/{number:02}-{module.name}")
        names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
        with gzip.open(self.work / "initrd", "wb", 1) as initrd:
            packed = ["cpio", "-o", "-H", "newc", "--quiet"]
            done = subprocess.run(packed, input=names.encode(), cwd=tree, check=True, capture_output=True)
            initrd.write(done.stdout)

    def assemble(self, packages: list[Path]) -> None:
        """The disk. Whoever is not root needs files that seem to be root's."""
        (self.work / "packages.txt").write_text("\n".join(map(str, packages)))
        wrapper = [] if os.geteuid() == 0 else ["fakeroot"]
        run(*wrapper, sys.executable, __file__, self.work, self.version)
        shutil.rmtree(self.root)


def assemble(work: Path, version: str) -> None:
    """Unpacks the packages as dpkg would, and tells dpkg's database so."""
    root = work / "root"
    for name in ["bin", "sbin", "lib"]:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    status = []
    for package in map(Path, (work / "packages.txt").read_text().splitlines()):
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        names = run("tar", "-xpvC", root, "--keep-directory-symlink", stdin=archive.stdout)
        if archive.wait() != 0:
            raise SystemExit(f"board: {package} cannot be unpacked")
        control = run("dpkg-deb", "-f", package).rstrip("\n")
        fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and line[0] != " ")
        status.append(f"{control}\nStatus: install ok installed\n")
        same = fields.get("Multi-Arch") == "same"
        name = fields["Package"] + (":" + fields["Architecture"] if same else "")
        paths = (line.removeprefix(".").rstrip("/") or "/." for line in names.splitlines())
        (info / f"{name}.list").write_text("\n".join(paths) + "\n")
    (root / "var/lib/dpkg/status").write_text("\n".join(status))

    # What the packages' own scripts would have done, as far as it is missed here.
    etc = root / "etc"
    for name, master in [("passwd", "passwd.master"), ("group", "group.master")]:
        shutil.copy(root / "usr/share/base-passwd" / master, etc / name)
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (etc / "hosts").write_text("127.0.0.1 localhost board\n::1 localhost\n")
    (etc / "hostname").write_text("board\n")
    (etc / "machine-id").write_text("")
    (etc / "fstab").write_text("")
    (root / "usr/bin/awk").symlink_to("mawk")

    # Modules, and those that are there at every start.
    modules = root / "lib/modules" / version
    source = work / "kernel/lib/modules" / version
    builder = Builder(Path(), work)
    builder.version = version
    for module in builder.modules([*LATE_MODULES, *CAMERAS]):
        to = modules / module.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, to)
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"]:
        shutil.copy(source / name, modules / name)
    run("depmod", "-b", root, version)
    (etc / "modules-load.d/board.conf").write_text("\n".join(LATE_MODULES) + "\n")
    (etc / "modprobe.d/board.conf").write_text(
        'options v4l2loopback video_nr=0 exclusive_caps=1 card_label="board camera"\n'
    )

    # The test's hands.
    hands = root / "usr/local/lib/board"
    hands.mkdir(parents=True)
    for name in ["agent", "camera"]:
        shutil.copy(GUEST / name, hands / name)
        (hands / name).chmod(0o755)
        shutil.copy(GUEST / f"board-{name}.service", etc / "systemd/system")
    started = etc / "systemd/system/multi-user.target.wants"
    started.mkdir(exist_ok=True)
    (started / "board-agent.service").symlink_to("../board-agent.service")
    # What only takes time here.
    for unit in ["getty@", "getty-static", "serial-getty@", "systemd-networkd", "systemd-timesyncd"]:
        (etc / f"systemd/system/{unit}.service").symlink_to("/dev/null")
    # Asking for every device again is most of the boot of a computed processor; these are those that matter.
    trigger = etc / "systemd/system/systemd-udev-trigger.service.d"
    trigger.mkdir()
    wanted = " ".join(f"--subsystem-match={s}" for s in ["block", "gpio", "virtio-ports", "video4linux"])
    (trigger / "board.conf").write_text(
        f"[Service]\nExecStart=\nExecStart=udevadm trigger --action=add {wanted}\n"
    )
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-d", root, work / "disk.ext4", f"{DISK_MEGABYTES}M")


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), sys.argv[2])
