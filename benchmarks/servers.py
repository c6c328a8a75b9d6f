"""Starts the services that are measured over HTTP, each with one worker on a core of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("--factory", "app.main:create_app")
IDIOMATIC = ("--factory", "benchmarks.idiomatic:create_app")
BARE = ("benchmarks.bare:app",)


def pin(process: int, *cores: int) -> None:
    """Keep a process (0: this one) to these cores (none: to any), where the system can."""
    every = range(os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity") and set(cores) <= set(every):
        os.sched_setaffinity(process, cores or every)


@contextlib.contextmanager
def served(application: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A service by uvicorn's arguments, on core 0: its port and its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name[:4] != "MAA_"}
    environment["MAA_CDS_NEWEST_WITHIN_DAYS"] = "0"  # the charts are old, and cards are measured
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log"]
    with subprocess.Popen(
        [*command, *application],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        pin(process.pid, 0)
        try:
            wait_for(port)
            yield port, process.pid
        finally:
            process.terminate()


def wait_for(port: int, seconds: float = 60) -> None:
    """Return as soon as the port on this machine takes connections."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.002)
    raise TimeoutError(f"Nothing listens on port {port}.")


def resident(process: int) -> int:
    """The bytes of memory that a process holds (Linux)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def output(module: str) -> str:
    """What a module of the benchmarks prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout
