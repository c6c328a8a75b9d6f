"""Bodies made to take the service from others: seconds to the answer, and health checks beside it.

`python -m benchmarks.hostile [BYTES ...] [NAME]` serves on loopback with the defaults and sends
every shape (or those with NAME in theirs) at each size (by default 100 kB, 1 MB and 15.8 MB), one
after the other, while health checks go on; then the worst four together.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.cds_hooks.discovery import SERVICES
from benchmarks.servers import OURS, pin, served
from tests import shapes

FHIR_JSON = "application/fhir+json"
SIZES = (100_000, 1_000_000, 15_800_000)
EVERY = "criteria=" + "&criteria=".join(
    (
        "nih-daclizumab-2003",
        "camitta-severe-1976",
        "very-severe",
        "nih-severe",
        "bsh-diagnosis",
        "howard-2004-pediatric",
        "emaa",
    )
)
ELIGIBILITY = "/fhir/$assess-eligibility"
RESPONSE = "/fhir/$assess-response"
MEASURE = "/fhir/Measure/maa-hematologic-response/$evaluate-measure"


@dataclass(frozen=True)
class Shot:
    """One request: what it is called, where it goes, and its body."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]


def _of_size(shape: Callable[[int], bytes], size: int) -> bytes:
    some, more = len(shape(10)), len(shape(1010))
    return shape(max(1, (size - some) * 1000 // (more - some)))


def _filled(before: str, part: str, after: str) -> Callable[[int], bytes]:
    return lambda n: (before + ",".join([part] * n) + after).encode()


def _nested(opening: str, closing: str) -> Callable[[int], bytes]:
    return lambda n: (
        '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","x":'
        + opening * n
        + "1"
        + closing * n
        + "}}]}"
    ).encode()


def _text(element: str, letters: str) -> Callable[[int], bytes]:
    def of(n: int) -> bytes:
        resource = shapes.result(shapes.PLATELETS, 20)
        match element:
            case "display":
                resource["code"] = {"text": letters * n}
            case "reference":
                resource["subject"] = {"reference": letters * n}
            case "valueString":
                del resource["valueQuantity"]
                resource["valueString"] = letters * n
            case "unit":
                resource["valueQuantity"] = {"value": 1, "unit": letters * n}
            case _:
                resource[element] = letters * n
        return shapes.bundle(resource)

    return of


def _texts(n: int) -> bytes:
    """Many results with texts of a length that is still looked at, all different."""
    many = []
    for i in range(n):
        one = shapes.result(shapes.PLATELETS, 20)
        one["code"] = {"text": f"Thrombozyten im Vollblut (maschinell) {i} " + "plt " * 40}
        many.append(one)
    return shapes.bundle(*many)


def _values(n: int) -> bytes:
    many = []
    for i in range(n):
        one = shapes.result(shapes.PLATELETS, 20)
        del one["valueQuantity"]
        one["valueString"] = f"{i} x 10 hoch 9 pro Liter, geprueft " * 2
        many.append(one)
    return shapes.bundle(*many)


def _broad_contained(n: int) -> bytes:
    """Results each of which holds others."""
    inner = [shapes.result(shapes.PLATELETS, 1, id=f"i{k}") for k in range(20)]
    return shapes.bundle(*(shapes.result(shapes.PLATELETS, 2, contained=inner) for _ in range(n)))


def _parameters(n: int) -> bytes:
    entries = [{"name": f"x{i}", "valueString": "y"} for i in range(n)]
    return json.dumps({"resourceType": "Parameters", "parameter": entries}).encode()


def _prefetch(shape: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def of(n: int) -> bytes:
        prefetch: dict[str, Any] = dict.fromkeys(_prefetch_keys())
        call = {
            "hook": "patient-view",
            "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            "context": {"userId": "Practitioner/1", "patientId": "p"},
            "prefetch": prefetch | {"counts": 0},
        }
        key = next(k for k in prefetch if k != "patient")
        prefetch[key] = "@"
        call["prefetch"] = prefetch
        return json.dumps(call).encode().replace(b'"@"', shape(n))

    return of


def _prefetch_keys() -> list[str]:
    return list(SERVICES["maa-response"].queries(""))


BROKEN = '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","component":['
RAW: dict[str, Callable[[int], bytes]] = {
    "empty entries": _filled('{"resourceType":"Bundle","entry":[', "{}", "]}"),
    "empty components": _filled(BROKEN, "{}", "]}}]}"),
    "bare Observations": _filled(
        '{"resourceType":"Bundle","entry":[', '{"resource":{"resourceType":"Observation"}}', "]}"
    ),
    "unread resources": _filled(
        '{"resourceType":"Bundle","entry":[', '{"resource":{"resourceType":"X"}}', "]}"
    ),
    "numbers": _filled('{"resourceType":"Bundle","x":[', "1e99", "]}"),
    "nested lists": _nested("[", "]"),
    "nested objects": _nested('{"a":', "}"),
    "one long display": _text("display", "leukocytes "),
    "one long reference": _text("reference", "/Patient/a"),
    "one long unit": _text("unit", "10*9/"),
    "one long text value": _text("valueString", "1 x 10"),
    "one long date": _text("effectiveDateTime", "2020-"),
    "many texts": _texts,
    "many text values": _values,
    "contained in each": _broad_contained,
    "parameters": _parameters,
}


def _shots(size: int) -> Iterator[Shot]:
    plain = {"content-type": FHIR_JSON}
    strict = plain | {"prefer": "handling=strict"}
    for shape in (*shapes.SHAPES, *shapes.OVERLAPPING):
        body = _of_size(shape, size)
        yield Shot(shape.__name__, f"{ELIGIBILITY}?{EVERY}", body, plain)
        yield Shot(shape.__name__, f"{RESPONSE}?window=36500", body, plain)
        yield Shot(shape.__name__ + ", strict", ELIGIBILITY, body, strict)
    for name, make in RAW.items():
        body = _of_size(make, size)
        yield Shot(name, f"{ELIGIBILITY}?{EVERY}", body, plain)
        yield Shot(name + ", strict", ELIGIBILITY, body, strict)
    yield Shot("repeated keys, strict", ELIGIBILITY, _of_size(shapes.repeated_keys, size), strict)
    for name in ("patients", "many_days", "not_fhir"):
        shape = getattr(shapes, name)
        yield Shot(f"{name}, measure", MEASURE, _of_size(shape, size), plain)
        call = _of_size(_prefetch(shape), size)
        hooks = {"content-type": "application/json"}
        yield Shot(f"{name}, hook", "/cds-services/maa-response", call, hooks)
    zipped = gzip.compress(b" " * (size * 100), 9)
    yield Shot("gzip of spaces", ELIGIBILITY, zipped, plain | {"content-encoding": "gzip"})
    patients = gzip.compress(_of_size(shapes.patients, size), 6)
    yield Shot("gzip of patients", ELIGIBILITY, patients, plain | {"content-encoding": "gzip"})


class Health:
    """Health checks one after the other, on a connection of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._worst = 0.0
        self._going = True
        self._thread = threading.Thread(target=self._check, daemon=True)
        self._thread.start()

    def worst(self) -> float:
        """The longest since it was asked last, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst

    def stop(self) -> None:
        """No more of them."""
        self._going = False
        self._thread.join()

    def _check(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while self._going:
                started = time.perf_counter()
                client.get("/health/live").raise_for_status()
                self._worst = max(self._worst, time.perf_counter() - started)
                time.sleep(0.005)


def _cpu_seconds(process: int) -> float:
    """The time on a processor that the process and its children have taken, those ended too."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if name.startswith(f"{process} "):
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == process:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(process: int) -> float:
    """What the process and its children hold for themselves, in MB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if int(lines["PPid"]) == process or int(lines["Pid"]) == process:
            total += int(lines.get("RssAnon", "0 kB").split()[0])
    return total / 1024


class Memory:
    """The most memory that the service has held."""

    def __init__(self, process: int) -> None:
        self._process = process
        self.most = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, _memory(self._process))
            time.sleep(0.02)


def main(sizes: list[int], only: str) -> None:
    """Prints a line for every shot whose name has `only` in it."""
    with served(OURS) as (port, process):
        pin(process)
        url = f"http://127.0.0.1:{port}"
        health, memory = Health(url), Memory(process)
        time.sleep(3)
        load = " ".join(f"{one:.1f}" for one in os.getloadavg())
        print(f"load {load}; health with nothing beside it {health.worst() * 1000:.1f} ms")  # noqa: T201
        found: list[tuple[float, Shot]] = []
        with httpx.Client(base_url=url, timeout=120) as client:
            for size in sizes:
                for shot in (one for one in _shots(size) if only in one.name):
                    health.worst()
                    memory.most = 0
                    spent, begun = _cpu_seconds(process), time.perf_counter()
                    answer = client.post(shot.path, content=shot.body, headers=shot.headers)
                    seconds = time.perf_counter() - begun
                    found.append((seconds, shot))
                    spent = _cpu_seconds(process) - spent
                    _say(shot, answer, (seconds, spent), health.worst(), memory.most)
        worst = [shot for _, shot in sorted(found, key=lambda one: -one[0])[:4]]
        _together(url, worst, health, memory)
        health.stop()


def _say(
    shot: Shot,
    answer: httpx.Response,
    seconds: tuple[float, float],
    health: float,
    memory: float,
) -> None:
    operation = shot.path.partition("?")[0].rpartition("/")[2]
    print(  # noqa: T201
        f"{shot.name:38} {operation:20} {len(shot.body) / 1e6:6.2f} MB  {answer.status_code}"
        f" {len(answer.content) / 1e6:6.2f} MB  {seconds[0]:6.2f} s"
        f"  cpu {seconds[1]:5.2f} s  health {health * 1000:6.1f} ms"
        f"  memory {memory:4.0f} MB",
        flush=True,
    )


def _together(url: str, shots: list[Shot], health: Health, memory: Memory) -> None:
    health.worst()
    memory.most = 0
    statuses: list[int] = []

    def send(shot: Shot) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            answer = client.post(shot.path, content=shot.body, headers=shot.headers)
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=send, args=(shot,)) for shot in shots]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(  # noqa: T201
        f"the worst four at once: {sorted(statuses)} {time.perf_counter() - begun:.2f} s, health "
        f"{health.worst() * 1000:.1f} ms, memory {memory.most:.0f} MB"
    )


if __name__ == "__main__":
    given = [one for one in sys.argv[1:] if one.isdigit()]
    main([int(size) for size in given] or list(SIZES), "".join(set(sys.argv[1:]) - set(given)))
