"""Images built by buildah and run by podman, in a store of their own; no daemon, as root."""

from __future__ import annotations

import json
import re
import resource
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import SECONDS_TO_START, environment, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
BASE_TAR = ROOT / "build" / "container" / "base.tar"
SECONDS = 480
# As little as an orchestrator gives: nothing to write to and no capability.
CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=all"),
    "--security-opt=no-new-privileges",
)


def base_name() -> str:
    """The image that the Dockerfile starts from, without its digest."""
    found = re.search(r"^FROM (\S+?)@", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found, "The Dockerfile names its base with a digest."
    return f"docker.io/library/{found[1]}"


def run(
    *command: str | Path, seconds: float = SECONDS, errors: bool = False, folder: Path = ROOT
) -> str:
    """What a program prints, on its standard error too if asked; it must not fail."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.PIPE,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{(done.stderr or '')[-3000:]}"
    return done.stdout


def stand_in() -> Path:
    """Debian with its Python, in the place of the base: no registry of images is asked.

    It has what the base has and the image must not: pip, and what installs it. Made once.
    """
    if BASE_TAR.exists():
        return BASE_TAR
    tree = BASE_TAR.parent / "base"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    ours = ("Origin: Debian", "Label: Debian", "Component: main", "Created-By: Packages")
    mirror = run("apt-get", "indextargets", "--format", "$(SITE)", *ours).split()[0]
    include = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", include, "trixie", tree, mirror)
    for archive in tree.glob("var/cache/apt/archives/*.deb"):
        archive.unlink()
    local = tree / "usr" / "local"
    (local / "bin" / "python").symlink_to("/usr/bin/python3")
    for name in ("site-packages/pip", "ensurepip"):
        (local / "lib" / "python3.13" / name).mkdir(parents=True)
    (local / "bin" / "pip").touch()
    # This machine's certificates: its packages may come by way of a proxy.
    trusted = "etc/ssl/certs/ca-certificates.crt"
    shutil.copyfile(ssl.get_default_verify_paths().cafile or f"/{trusted}", tree / trusted)
    (tree / "etc" / "pip.conf").write_text(f"[global]\ncert = /{trusted}\n")
    run("tar", "--directory", tree, "--create", "--file", BASE_TAR.with_suffix(".part"), ".")
    shutil.rmtree(tree)
    return BASE_TAR.with_suffix(".part").rename(BASE_TAR)


@dataclass(frozen=True)
class Container:
    """A container that runs."""

    engine: Engine
    name: str
    port: int

    @property
    def url(self) -> str:
        """Where it listens on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def python(self, code: str) -> str:
        """What Python prints inside, as the container's user."""
        return self.engine.podman("exec", self.name, "python", "-c", code)

    def state(self) -> dict[str, Any]:
        """Whether it runs, and how it ended."""
        found: dict[str, Any] = json.loads(
            self.engine.podman("inspect", self.name, "--format", "{{json .State}}")
        )
        return found

    def logs(self) -> str:
        """All that it has written."""
        return self.engine.podman("logs", self.name, errors=True)

    def until_logged(self, text: str, count: int = 1) -> None:
        """Wait until its log says something so many times."""
        give_up = time.monotonic() + SECONDS_TO_START
        while self.logs().count(text) < count:
            assert time.monotonic() < give_up, f"No {text!r} in\n{self.logs()}"
            time.sleep(0.1)


@dataclass(frozen=True)
class Engine:
    """Where images and containers are kept."""

    folder: Path

    def _store(self) -> tuple[str, ...]:
        root, run_root = self.folder / "store", self.folder / "run"
        return (f"--root={root}", f"--runroot={run_root}", "--storage-driver=overlay")

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah."""
        return run("buildah", *self._store(), *arguments)

    def podman(self, *arguments: str, seconds: float = SECONDS, errors: bool = False) -> str:
        """Run podman."""
        kind = ("--runtime=runc", "--cgroup-manager=cgroupfs", f"--tmpdir={self.folder / 'tmp'}")
        command = ("podman", *self._store(), *kind, *arguments)
        # A container that runs out of memory leaves a file where podman was called.
        return run(*command, seconds=seconds, errors=errors, folder=self.folder)

    def base(self) -> None:
        """Import the stand-in under the name of the base."""
        name = self.buildah("from", "scratch").strip()
        self.buildah("add", name, stand_in(), "/")
        self.buildah("commit", "--rm", name, base_name())

    def build(self, *options: str) -> str:
        """The id of the image, built as the Dockerfile says."""
        # No age of its own: of one source comes one image.
        own = ("--isolation=chroot", "--format=docker", "--timestamp=0", "--pull-never")
        return self.buildah(
            "build", *own, f"--from={base_name()}", "--quiet", *options, "."
        ).strip()

    def size(self, image: str) -> int:
        """The bytes of an image with all it is built on."""
        return int(self.podman("image", "inspect", image, "--format", "{{.Size}}"))

    @contextmanager
    def running(self, image: str, mebibytes: int = 256, **settings: str) -> Iterator[Container]:
        """A container, confined, with its own command; it has answered once."""
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 16)
        port = free_port()
        name = self.podman(
            *("run", "--detach", *CONFINED, f"--publish=127.0.0.1:{port}:8000"),
            f"--memory={mebibytes}m",
            *(f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"),
            *(f"--env={name}={value}" for name, value in settings.items()),
            image,
        ).strip()
        container = Container(self, name, port)
        try:
            give_up = time.monotonic() + SECONDS_TO_START
            while not _answers(f"{container.url}/health/live"):
                assert time.monotonic() < give_up, f"It does not answer.\n{container.logs()}"
                time.sleep(0.02)
            yield container
            assert "Traceback" not in container.logs()
        finally:
            self.podman("rm", "--force", "--time=0", name)

    def remove(self) -> None:
        """Leave nothing, neither a mount: what is mounted last goes first."""
        self.podman("rm", "--force", "--all", "--time=0")
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if Path(one).is_relative_to(self.folder)]):
            run("umount", mount)
        shutil.rmtree(self.folder)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
