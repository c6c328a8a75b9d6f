"""A long run of everything at once: is an answer wrong, does memory grow, does it slow down.

`python -m benchmarks.soak --minutes 60` serves on loopback with the defaults. Four callers ask the
fixtures' stories again and again, one sends bodies made to do harm, one hangs up on what it asked,
and every ten seconds a process that evaluates is killed. Every answer to a story is held, byte for
byte, to what this process makes of it alone. It ends with 1 where an answer was wrong or a 500.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx

from app import operations
from app.fhir.json import encode
from app.fhir.outcome import RequestError
from benchmarks.hostile import ELIGIBILITY, FHIR_JSON, RESPONSE
from benchmarks.servers import OURS, ROOT, served
from tests import shapes

CALLERS = 4
_SEED = 2003
_HEADERS = {"content-type": FHIR_JSON}
_KILLED_EVERY_SECONDS = 10
_RETRIED = {503}


class Seen:
    """What was seen so far."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []
        self.wrong: list[str] = []
        self.lost = self.abandoned = self.killed = 0
        self.going = True


def stories() -> list[tuple[str, bytes, bytes]]:
    """Each story under each operation: address, body, and the answer as it must be."""
    found = []
    for file in sorted((ROOT / "fixtures").glob("*/request.json")):
        body = file.read_bytes()
        calls = ((ELIGIBILITY, operations.eligibility), (RESPONSE, operations.response))
        for path, operation in calls:
            with suppress(RequestError):
                found.append((path, body, encode(operation(body))))
    return found


def _ask(url: str, seen: Seen, asked: list[tuple[str, bytes, bytes]], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 which story comes next
    with httpx.Client(base_url=url, timeout=60, headers=_HEADERS) as client:
        while seen.going:
            path, body, expected = chance.choice(asked)
            begun = time.perf_counter()
            try:
                answer = client.post(path, content=body)
            except httpx.TransportError:
                seen.lost += 1
                continue
            seen.times.append(time.perf_counter() - begun)
            seen.statuses[answer.status_code] += 1
            if answer.content != expected and answer.status_code not in _RETRIED:
                seen.wrong.append(f"{path} {answer.status_code}")


def _harm(url: str, seen: Seen) -> None:
    """Bodies made to do harm, one after the other."""
    made = [*shapes.SHAPES, *shapes.OVERLAPPING]
    chance = random.Random(_SEED)  # noqa: S311
    with httpx.Client(base_url=url, timeout=60, headers=_HEADERS) as client:
        while seen.going:
            body = chance.choice(made)(chance.choice((10, 300, 3000)))
            strict = {"prefer": "handling=strict"} if chance.random() < 0.3 else {}
            path = chance.choice((ELIGIBILITY, RESPONSE))
            try:
                answer = client.post(path, content=body, headers=strict)
                seen.statuses[answer.status_code] += 1
            except httpx.TransportError:
                seen.lost += 1


def _hang_up(url: str, seen: Seen) -> None:
    """Callers who do not wait for what they asked."""
    body = shapes.patients(3000)
    while seen.going:
        with suppress(httpx.TransportError):
            httpx.post(url + ELIGIBILITY, content=body, headers=_HEADERS, timeout=0.2)
        seen.abandoned += 1
        time.sleep(2)


def _children(process: int) -> list[int]:
    """The processes that evaluate."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(one) for one in listed]


def _kill(process: int, seen: Seen) -> None:
    while seen.going:
        time.sleep(_KILLED_EVERY_SECONDS)
        with suppress(OSError):
            for child in _children(process)[:1]:
                os.kill(child, signal.SIGKILL)
                seen.killed += 1


def _resident(process: int) -> float:
    """The memory of the service and its processes, in MB; shared pages once for each."""
    pages = 0
    for one in (process, *_children(process)):
        with suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _percentile(times: list[float], percent: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * percent / 100))] * 1000


def main(minutes: float) -> int:
    """1 where an answer was wrong, a 500, or an ordinary one lost."""
    asked, seen = stories(), Seen()
    with served(OURS) as (port, process):
        url = f"http://127.0.0.1:{port}"
        jobs = [threading.Thread(target=_ask, args=(url, seen, asked, n)) for n in range(CALLERS)]
        jobs += [threading.Thread(target=job, args=(url, seen)) for job in (_harm, _hang_up)]
        jobs.append(threading.Thread(target=_kill, args=(process, seen)))
        begun, first = time.monotonic(), 0.0
        for job in jobs:
            job.start()
        try:
            while (passed := time.monotonic() - begun) < minutes * 60:
                time.sleep(min(30, minutes * 15))
                memory = _resident(process)
                first = first or memory
                print(f"{passed / 60:5.1f} min {len(seen.times):8,} answers {memory:6.0f} MB")  # noqa: T201
        finally:
            seen.going = False
            for job in jobs:
                job.join()
        time.sleep(5)
        last = _resident(process)
    half = len(seen.times) // 2
    p50, p99 = _percentile(seen.times, 50), _percentile(seen.times, 99)
    print(  # noqa: T201
        f"{sum(seen.statuses.values()):,} requests {dict(sorted(seen.statuses.items()))}; "
        f"{len(seen.times):,} of them stories; wrong {len(seen.wrong)}, lost {seen.lost}, "
        f"500s {seen.statuses[500]}; faults: {seen.killed} killed, {seen.abandoned} hung up\n"
        f"memory {first:.0f} MB at first, {last:.0f} at the end; stories p50 {p50:.1f} ms, p99 "
        f"{p99:.1f} ms; first half p50 {_percentile(seen.times[:half], 50):.1f} ms, second "
        f"{_percentile(seen.times[half:], 50):.1f} ms"
    )
    for one in seen.wrong[:10]:
        print("wrong:", one)  # noqa: T201
    return int(bool(seen.wrong or seen.lost or seen.statuses[500]))


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument("--minutes", type=float, default=60)
    sys.exit(main(given.parse_args().minutes))
