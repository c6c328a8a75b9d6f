"""Measures everything side by side, in turns, and says which goals are met: `make bench`.

Every figure is a ratio of what was measured in the same round of the same run: the machine may
be busy, and seconds measured apart cannot be compared. The figures are the median over the
rounds, with the quartiles.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from app.fhir.json import encode
from app.operations import eligibility
from benchmarks import bulk, floor, idiomatic, load, servers, spark
from benchmarks.cql_engines import AbsentError, CqlExecution, fhir4ds
from benchmarks.generate import bundle

RECORD = servers.ROOT / "build" / "bench.json"
# So many that what a bundle's dates and patients leave in caches is gone when it comes again.
BODIES = 1000
OPERATION = "/fhir/$assess-eligibility"


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds: its median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """The median and quartiles of the values of the rounds."""
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(middle, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Goal:
    """A ratio that must, and one that should, be reached."""

    name: str
    must: float
    stretch: float | None
    at_most: bool

    def reached(self, ratio: float) -> str:
        """In a word: stretch, must, or missed."""
        for word, limit in (("stretch", self.stretch), ("must", self.must)):
            if limit is not None and (ratio <= limit if self.at_most else ratio >= limit):
                return word
        return "missed"


GOALS = {
    "floor": Goal("bytes to bytes, 40 Observations / L", 4, 2, True),
    "validation": Goal("fhir.resources validating the input / bytes to bytes", 25, 60, False),
    "cql": Goal("cql-execution's best case on the same rule / bytes to bytes", 150, 300, False),
    "http": Goal("HTTP throughput / FastAPI with fhir.resources in and out", 25, 45, False),
    "bare": Goal("HTTP throughput / bare ASGI", 0.05, 0.12, False),
    "tail": Goal("p99 / p50 under half load", 5, 2.5, True),
    "linear": Goal("10,000 Observations in one Bundle / 250 times 40", 1.5, 1.1, True),
    "life": Goal("when=changes / when=newest, 10,000 Observations of one patient", 6, 3, True),
    "bulk": Goal("bulk on one process / decode only", 3, 2, True),
    "two": Goal("bulk on two processes / on one", 0.6, 0.53, True),
    "duckdb": Goal("bulk on two processes / DuckDB on the same rule", 5, 3, True),
    "hospital": Goal("a hospital's open ones on two / DuckDB on the same rule", 2, 1.2, True),
    "response": Goal("response over a hospital / screen", 3, 1.5, True),
    "spark": Goal("Spark, all our files / Spark SQL on the same rule", 1.6, 1, True),
    "hooks": Goal("CDS Hooks call, p99 in ms under half load", 500, None, True),
    "start": Goal("process start to first answer, s", 1.5, None, True),
    "memory": Goal("resident memory after 10,000 requests, MB", 150, None, True),
    "flat": Goal("resident memory after 10,000 / after 2,000 requests", 1.05, None, True),
    "peak": Goal("peak memory / body", 4, None, True),
}


@dataclass
class Run:
    """What one run found."""

    python: str = platform.python_version()
    machine: str = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    load: list[float] = field(default_factory=list)
    """The machine's load average before and after: above one a core, others were at work too."""
    figures: dict[str, Spread] = field(default_factory=dict)
    goals: dict[str, Spread] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def figure(self, name: str, values: Iterable[float]) -> Spread:
        """Keep and print a figure that is no goal."""
        found = self.figures[name] = Spread.of(values)
        say(f"  {name}: {found}")
        return found

    def goal(self, key: str, values: Iterable[float]) -> None:
        """Keep and print a figure that a goal is set for."""
        found = self.goals[key] = Spread.of(values)
        say(f"  {GOALS[key].name}: {found} [{GOALS[key].reached(found.median)}]")

    def missing(self, name: str, why: str) -> None:
        """Say that a part was not measured."""
        self.absent[name] = why
        say(f"  {name}: ABSENT, {why}")


def say(text: str) -> None:
    """One line to whoever waits."""
    print(text, flush=True)  # noqa: T201 the benchmark's answer


def answer(body: bytes) -> bytes:
    """Our engine, bytes to bytes."""
    return encode(eligibility(body))


def times_in_turn(
    contenders: Mapping[str, tuple[Callable[[bytes], Any], int]],
    bodies: Sequence[bytes],
    rounds: int,
) -> dict[str, list[float]]:
    """For each contender the median seconds of a call, in each round.

    In a round every contender has its number of calls, one after the other; each goes through
    the bodies on its own.
    """
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    position = dict.fromkeys(contenders, 0)
    for _ in range(rounds):
        for name, (call, calls) in contenders.items():
            seconds = []
            for _ in range(calls):
                body = bodies[position[name] % len(bodies)]
                position[name] += 1
                start = time.perf_counter()
                call(body)
                seconds.append(time.perf_counter() - start)
            medians[name].append(statistics.median(seconds))
    return medians


def ratios(one: Iterable[float], other: Iterable[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(one, other, strict=True)]


def settle() -> None:
    """Free the collector of what is there already, as the service does when it starts.

    Else it goes through what other contenders left (pydantic's models, DuckDB) at a large
    Bundle's expense.
    """
    gc.collect()
    gc.freeze()


def in_process(run: Run, bodies: Sequence[bytes]) -> None:
    """The engine beside the floor and beside fhir.resources."""
    say("One Bundle of 40 Observations, in one process")
    contenders: dict[str, tuple[Callable[[bytes], Any], int]] = {
        "decode only": (floor.decode, 40),
        "L": (floor.verdicts, 40),
        "bytes to bytes": (answer, 40),
        "fhir.resources validation": (idiomatic.validate, 4),
        "fhir.resources in and out": (idiomatic.answer_bytes, 4),
    }
    times_in_turn(contenders, bodies, 5)
    found = times_in_turn(contenders, bodies, 40)
    for name, seconds in found.items():
        run.figure(f"{name}, us", [s * 1e6 for s in seconds])
        if name != "L":
            run.figure(f"{name} / L", ratios(seconds, found["L"]))
    ours = found["bytes to bytes"]
    run.goal("floor", ratios(ours, found["L"]))
    run.goal("validation", ratios(found["fhir.resources validation"], ours))
    run.figure(
        "fhir.resources in and out / bytes to bytes",
        ratios(found["fhir.resources in and out"], ours),
    )


def cql(run: Run, bodies: Sequence[bytes]) -> None:
    """The same rule in CQL engines, in turn with ours."""
    say("The same rule in CQL engines")
    some = bodies[:10]
    expected = [next(iter(floor.verdicts(body).values())) for body in some]
    try:
        engine = CqlExecution()
        best = []
        for _ in range(3):
            ours = times_in_turn({"": (answer, 100)}, bodies, 3)[""]
            medians, verdicts = engine.medians(some, 3)
            if verdicts != expected:
                raise RuntimeError("cql-execution judges otherwise than the floor.")
            # The first round finds cold caches; its best is what counts here.
            best.append(min(medians) / 1e3 / statistics.median(ours))
        run.goal("cql", best)
    except AbsentError as why:
        run.missing("cql-execution", str(why))
    try:
        judge = fhir4ds()
        if [judge(body) for body in some] != expected:
            raise RuntimeError("fhir4ds-v2 judges otherwise than the floor.")
        found = times_in_turn({"fhir4ds": (judge, 3), "ours": (answer, 100)}, bodies, 4)
        run.figure("fhir4ds-v2 / bytes to bytes", ratios(found["fhir4ds"], found["ours"]))
    except AbsentError as why:
        run.missing("fhir4ds-v2", str(why))
    run.missing("cqlpy", "runs Python written in the manner of CQL, not CQL")


def linear(run: Run, bodies: Sequence[bytes]) -> None:
    """One Bundle of 10,000 Observations against 250 of 40."""
    say("10,000 Observations in one Bundle")
    for patients in (250, 1):
        large = bundle(observations=10_000, patients=patients, seed=1)
        found = []
        for _ in range(11):
            seconds = []
            for some in ([large], bodies[:250]):
                start = time.perf_counter()
                for body in some:
                    answer(body)
                seconds.append(time.perf_counter() - start)
            found.append(seconds[0] / seconds[1])
        if patients > 1:
            run.goal("linear", found)
        else:
            run.figure("the same, all of one patient", found)


def life(run: Run, bodies: Sequence[bytes]) -> None:
    """A whole life against its newest day: every day is judged, and each change answered."""
    say("when=changes against when=newest, of one patient")
    large = [bundle(observations=10_000, seed=1)]
    for name, some, calls in (("40", bodies, 40), ("10,000", large, 1)):
        contenders: dict[str, tuple[Callable[[bytes], Any], int]] = {
            when: (partial(_answer_when, when), calls) for when in ("newest", "changes")
        }
        found = times_in_turn(contenders, some, 15)
        ratio = ratios(found["changes"], found["newest"])
        if len(some) > 1:
            run.figure(f"when=changes / when=newest, {name} Observations", ratio)
        else:
            run.goal("life", ratio)


def _answer_when(when: str, body: bytes) -> bytes:
    return encode(eligibility(body, [("when", when)]))


def start_and_memory(run: Run, requests: Sequence[bytes]) -> None:
    """From the start of the process to its first answer, and what memory it comes to."""
    say("Start and memory")
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        with servers.served(servers.OURS) as (port, _):
            load.measure(port, requests[:1], 0.001, connections=1)
            seconds.append(time.perf_counter() - begin)
    run.goal("start", seconds)
    if not Path("/proc/self/clear_refs").exists():
        run.missing("memory", "it is read from Linux's /proc")
        return
    with servers.served(servers.OURS) as (port, process):
        _requests(port, requests, 2000)
        early = servers.resident(process)
        _requests(port, requests, 8000)
        late = servers.resident(process)
    run.goal("memory", [late / 1e6] * 2)
    run.goal("flat", [late / early] * 2)
    told = json.loads(servers.output("benchmarks.peak"))
    # The body itself was there before.
    run.goal("peak", [(told["peak"] - told["before"] + told["body"]) / told["body"]] * 2)


def _requests(port: int, requests: Sequence[bytes], number: int) -> None:
    """At least so many requests."""
    while number > 0:
        found = load.measure(port, requests, 2)
        if found.failures:
            raise RuntimeError("The service failed on a request.")
        number -= len(found.times)


def http(run: Run, requests: Sequence[bytes]) -> None:
    """Our service, the idiomatic one and bare ASGI over HTTP, one worker each, in turn."""
    say("Over HTTP: one worker on one core, the client on another")
    rates: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    with (
        servers.served(servers.BARE) as (bare, _),
        servers.served(servers.OURS) as (ours, _),
        servers.served(servers.IDIOMATIC) as (idiom, _),
    ):
        ports = {"bare ASGI": bare, "ours": ours, "FastAPI with fhir.resources": idiom}
        for port in ports.values():
            load.measure(port, requests, 1)
        for _ in range(6):
            for name, port in ports.items():
                full = load.measure(port, requests, 2)
                half = load.measure(port, requests, 3, full.rate / 2, connections=64)
                if full.failures or half.failures:
                    raise RuntimeError(f"{name} failed on a request.")
                rates.setdefault(name, []).append(full.rate)
                for percent in (50, 99):
                    tails.setdefault(f"{name}, p{percent} under half load, ms", []).append(
                        half.percentile(percent) * 1e3
                    )
    for name, found in rates.items():
        run.figure(f"{name}, requests/s", found)
    for name, found in tails.items():
        run.figure(name, found)
    run.goal("http", ratios(rates["ours"], rates["FastAPI with fhir.resources"]))
    run.goal("bare", ratios(rates["ours"], rates["bare ASGI"]))
    p50, p99 = (tails[f"ours, p{percent} under half load, ms"] for percent in (50, 99))
    run.goal("tail", ratios(p99, p50))


def hooks(run: Run, bodies: Sequence[bytes]) -> None:
    """The CDS Hooks call, answered from prefetched data."""
    say("CDS Hooks: maa-eligibility on patient-view, everything prefetched")
    with servers.served(servers.OURS) as (port, _):
        discovery = httpx.get(f"http://127.0.0.1:{port}/cds-services")
        if discovery.status_code != httpx.codes.OK:
            run.missing("CDS Hooks", "this service has no /cds-services")
            return
        service = next(s for s in discovery.json()["services"] if s["id"] == "maa-eligibility")
        path = "/cds-services/maa-eligibility"
        requests = [load.post(path, _hook(body, service["prefetch"])) for body in bodies[:200]]
        p99 = []
        for _ in range(5):
            full = load.measure(port, requests, 2)
            half = load.measure(port, requests, 3, full.rate / 2, connections=64)
            if full.failures or half.failures:
                raise RuntimeError("A CDS Hooks call failed.")
            p99.append(half.percentile(99) * 1e3)
    run.goal("hooks", p99)


def _hook(body: bytes, templates: Mapping[str, str]) -> bytes:
    """A call whose prefetch has each Observation under the template that asks for its code."""
    entries = json.loads(body)["entry"]
    prefetch: dict[str, Any] = {}
    for key, template in templates.items():
        found = [e for e in entries if e["resource"]["code"]["coding"][0]["code"] in template]
        prefetch[key] = {"resourceType": "Bundle", "type": "searchset", "entry": found}
    patient = entries[0]["resource"]["subject"]["reference"].removeprefix("Patient/")
    if "patient" in templates:
        prefetch["patient"] = {"resourceType": "Patient", "id": patient}
    call = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": patient},
        "prefetch": prefetch,
    }
    return json.dumps(call).encode()


def bulk_export(run: Run) -> None:
    """Exports on one process and on two, beside decoding alone and DuckDB."""
    say(f"An export of {bulk.OBSERVATIONS:,} Observations")
    servers.pin(0)
    try:
        found = bulk.seconds_in_turn(3)
    except AbsentError as why:
        run.missing("bulk", str(why))
        return
    for name, seconds in found.items():
        run.figure(f"{name}, s", seconds)
    run.goal("bulk", ratios(found["screen, 1"], found["decode only"]))
    run.goal("two", ratios(found["screen, 2"], found["screen, 1"]))
    run.goal("response", ratios(found["hospital: response, 2"], found["hospital: screen, 2"]))
    if "DuckDB" in found:
        run.goal("duckdb", ratios(found["screen, 2"], found["DuckDB"]))
        run.goal("hospital", ratios(found["hospital: open ones, 2"], found["hospital: DuckDB"]))
    else:
        run.missing("DuckDB", "it is not installed here")


def spark_export(run: Run) -> None:
    """The same export on Spark, beside the same rule in Spark SQL."""
    say("Spark on two cores, its start left out")
    try:
        found = spark.seconds_in_turn(3)
    except AbsentError as why:
        run.missing("Spark", str(why))
        return
    for name, seconds in found.items():
        run.figure(f"{name}, s", seconds)
    run.goal("spark", ratios(found["Spark"], found["Spark SQL"]))


def main() -> None:
    """Run every part, then say which goals are met; the record goes to build/bench.json."""
    servers.pin(0, 1)
    bodies = [bundle(seed=seed) for seed in range(BODIES)]
    requests = [load.post(OPERATION, body) for body in bodies[:200]]
    run = Run()
    run.load.append(os.getloadavg()[0])
    for part in (in_process, cql, linear, life):
        settle()
        part(run, bodies)
    start_and_memory(run, requests)
    http(run, requests)
    hooks(run, bodies)
    bulk_export(run)
    spark_export(run)
    run.load.append(os.getloadavg()[0])
    say("\n| goal | must | stretch | measured (quartiles) | |\n|---|---|---|---|---|")
    for key, goal in GOALS.items():
        sign = "<=" if goal.at_most else ">="
        stretch = f"{sign} {goal.stretch}" if goal.stretch else ""
        found = run.goals.get(key)
        told = f"{found} | {goal.reached(found.median)}" if found else "absent |"
        say(f"| {goal.name} | {sign} {goal.must} | {stretch} | {told} |")
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(asdict(run), indent=1) + "\n")
    missed = [k for k, g in GOALS.items() if k in run.goals and _missed(g, run.goals[k])]
    say(f"\nMissed: {', '.join(missed) or 'none'}. Record: {RECORD.relative_to(servers.ROOT)}")


def _missed(goal: Goal, found: Spread) -> bool:
    return goal.reached(found.median) == "missed"


if __name__ == "__main__":
    main()
