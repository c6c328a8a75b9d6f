"""What Prometheus reads. Every label is of a closed set: nothing a caller sends makes a series."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app import __version__
from app.domain.tally import Tally

SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the directory in which several workers add up their metrics."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# What several processes use is added up, but for these.
_TOGETHER: Mapping[str, Callable[[Iterable[float]], float]] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
}


class Metrics:
    """What is counted; each application has its own registry, and workers share a directory."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._directory = os.environ.get(SHARED_DIRECTORY, "")
        self._requests = Counter(
            "maa_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "maa_request_seconds",
            "Time to answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "maa_requests_in_flight",
            "Requests being answered.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._verdicts = Counter(
            "maa_verdicts",
            "Assessments made.",
            ("operation", "definition", "verdict"),
            registry=self.registry,
        )
        self._remarks = Counter(
            "maa_remarks",
            "Results set aside, repaired or doubted, by the code of the reason.",
            ("code",),
            registry=self.registry,
        )
        self._upstream = Histogram(
            "maa_fhir_request_seconds",
            "Requests to FHIR servers, by how they ended.",
            ("outcome",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        build = Gauge(
            "maa_build_info",
            "Always 1.",
            ("version", "python"),
            multiprocess_mode="max",
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        # Kept: finding a series by its labels takes longer than counting. The labels are few.
        self._request_series = cache(self._requests.labels)
        self._time_series = cache(self._seconds.labels)
        self._verdict_series = cache(self._verdicts.labels)
        self._remark_series = cache(self._remarks.labels)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._request_series(route, method, status).inc()
        self._time_series(route).observe(seconds)

    def judged(self, tally: Tally) -> None:
        """Count what a request came to."""
        for definition, verdicts in tally.verdicts.items():
            for verdict, count in verdicts.items():
                self._verdict_series(tally.operation, definition, verdict).inc(count)
        for code, count in tally.remarks.items():
            self._remark_series(code).inc(count)

    def asked(self, outcome: str, seconds: float) -> None:
        """Count a request to a FHIR server."""
        self._upstream.labels(outcome).observe(seconds)

    def exposition(self) -> bytes:
        """The metrics of this process, or of all workers where they share a directory."""
        processes, counted = CollectorRegistry(), self.registry
        processes.register(_Processes(self._pids))
        if self._directory:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, self._directory)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + generate_latest(processes)

    def forget_the_dead(self) -> None:
        """Take workers that were killed out of what is said of the living."""
        for pid in _pids_in(self._directory):
            if not _lives(pid):
                mark_process_dead(pid, self._directory)  # type: ignore[no-untyped-call]

    def _pids(self) -> list[int]:
        return [pid for pid in _pids_in(self._directory) if _lives(pid)] or [os.getpid()]


def _pids_in(directory: str) -> set[int]:
    """The workers that have counted something, living or dead."""
    named = (file.stem.rpartition("_")[2] for file in Path(directory or os.devnull).glob("*.db"))
    return {int(pid) for pid in named if pid.isdigit()}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class _Processes(Collector):
    """How many workers there are, and what they use together (on Linux)."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        pids = self._pids()
        yield GaugeMetricFamily("maa_workers", "Processes that answer.", len(pids))
        families: dict[str, list[Metric]] = {}
        for pid in pids:
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                families.setdefault(family.name, []).append(family)
        for name, together in families.items():
            samples = [family.samples[0] for family in together]
            value = _TOGETHER.get(name, sum)(sample.value for sample in samples)
            together[0].samples = [samples[0]._replace(value=value)]
            yield together[0]
