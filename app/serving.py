"""Serves over HTTP: workers, what they share, and how they stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from app.logs import configure_logs
from app.settings import SettingsError, read_settings

_LOG = logging.getLogger("maa_assess")
_SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
# In memory, and writable where the root of a container is not.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 the directory in it is ours alone


def serve(host: str, port: int, workers: int) -> None:
    """Serve until told to stop; SettingsError where the settings do not allow it."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    if not _is_loopback(host) and not (settings.authenticates or settings.insecure):
        raise SettingsError(
            f"--host {host} listens beyond this machine, and nobody has to say who he is. Set "
            "MAA_AUTH_ISSUER (docs/operations.md has the ways), listen on 127.0.0.1 behind a "
            "gateway that asks for a login, or set MAA_INSECURE=true."
        )
    # uvicorn hands the signal on when it has stopped: having been told to is no failure.
    signal.signal(signal.SIGTERM, _stopped)
    with _shared_metrics(workers):
        uvicorn.run(
            f"{__package__}.main:create_app",
            factory=True,
            http=f"{__package__}.connections:Protocol",
            host=host,
            port=port,
            workers=workers,
            log_config=None,
            access_log=False,
            # Where the settings name the proxies, the application looks after them.
            proxy_headers=not settings.trusted_proxies,
            timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        )


def _stopped(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """A directory in which the workers add up their metrics, unless one is named already."""
    if workers == 1 or os.environ.get(_SHARED_METRICS):
        yield
        return
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    try:
        directory = tempfile.mkdtemp(prefix="maa-assess-", dir=parent)
    except OSError:
        _LOG.warning("No directory can be written to: /metrics tells of one worker at a time.")
        yield
        return
    os.environ[_SHARED_METRICS] = directory
    try:
        yield
    finally:
        del os.environ[_SHARED_METRICS]
        with suppress(OSError):
            shutil.rmtree(directory)
