"""What stops a body, a caller or a neighbour from taking the service away from the others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from app import operations
from app.api.strict import check_strictly
from app.asking import ASSESS_ELIGIBILITY
from app.body import Room, body_of
from app.domain.counts import Analyte, Count, Interval, When
from app.domain.effort import limited
from app.domain.recovery import Doubled, OverBaseline, Rise
from app.domain.rules import Known, Truth
from app.ehr.exchange import Limits
from app.ehr.server import FhirServer
from app.evaluation import STARVED, Bounds, BugError, Evaluator
from app.fhir.bodies import Entries
from app.fhir.outcome import RequestError
from app.main import create_app
from app.reading import subjects
from app.settings import Settings
from tests import shapes
from tests.conftest import FHIR_JSON, OPERATION, serving

OPERATIONS = (operations.eligibility, operations.response)
LONG = (("window", "36500"),)


def _work(call: Callable[..., Any], *arguments: Any) -> int:
    """How many steps Python takes: its instructions are counted, no clock is asked."""
    taken = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal taken
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        taken += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        call(*arguments)
    except RequestError:
        pass
    finally:
        sys.settrace(None)
    return taken


@pytest.mark.parametrize("operation", OPERATIONS, ids=["eligibility", "response"])
@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda one: str(one.__name__))
def test_twice_the_body_takes_about_twice_the_work(
    shape: Callable[[int], bytes], operation: Callable[..., Any]
) -> None:
    some, more = shape(60), shape(120)
    for body in (some, more):  # what is worked out once is worked out
        operation(body, LONG)
    assert _work(operation, more, LONG) < 2.4 * _work(operation, some, LONG)


@pytest.mark.parametrize("shape", shapes.OVERLAPPING, ids=lambda one: str(one.__name__))
def test_what_grows_faster_than_its_body_is_counted_as_fast_as_it_grows(
    shape: Callable[[int], bytes],
) -> None:
    """Else MAA_EVALUATION_STEPS would be no wall: a step could be any amount of work."""
    some, more = _work_and_steps(shape(60)), _work_and_steps(shape(150))
    assert more[1] > 4 * some[1]
    assert more[0] / more[1] < 1.2 * some[0] / some[1]


def _work_and_steps(body: bytes) -> tuple[int, int]:
    operations.response(body, LONG)  # what is worked out once is worked out
    with limited(10**9) as effort:
        operations.response(body, LONG)
    return _work(operations.response, body, LONG), effort.spent


def test_a_key_given_twice_is_told_in_time_that_grows_as_the_body() -> None:
    _work(check_strictly, shapes.repeated_keys(1))  # the models are loaded at the first call
    assert _work(check_strictly, shapes.repeated_keys(400)) < 2.4 * _work(
        check_strictly, shapes.repeated_keys(200)
    )


def test_a_contained_patient_is_decoded_once_however_often_it_is_pointed_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = 0
    decode = subjects.DECODE_RESOURCE  # type: ignore[attr-defined]

    def counting(raw: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return decode(raw)

    monkeypatch.setattr(subjects, "DECODE_RESOURCE", counting)
    operations.eligibility(shapes.contained_patients(50))
    assert decoded == 50


_ENDS = st.one_of(st.none(), st.sampled_from([Decimal(n) / 2 for n in range(6)]))


@st.composite
def _intervals(draw: st.DrawFn) -> Interval:
    low, high = draw(_ENDS), draw(_ENDS)
    if low is not None and high is not None and low > high:
        low, high = high, low
    same = low == high and low is not None
    closed = st.just(True) if same else st.booleans()
    return Interval(low, high, draw(closed), draw(closed))


def _known(values: list[Interval], baseline: Known | None = None) -> Known:
    day = When(date(2020, 1, 1), date(2020, 1, 1), None, "2020-01-01")
    counts = tuple(Count(Analyte.HEMOGLOBIN, value, day, ()) for value in values)
    return Known({Analyte.HEMOGLOBIN: counts}, {}, baseline=baseline)


@given(
    old=st.lists(_intervals(), max_size=4),
    new=st.lists(_intervals(), max_size=4),
    rule=st.one_of(
        st.builds(
            Rise,
            st.just(Analyte.HEMOGLOBIN),
            st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(1)]),
            st.booleans(),
        ),
        st.just(Doubled(Analyte.HEMOGLOBIN)),
    ),
)
def test_a_rise_between_many_counts_is_what_it_is_between_each_two(
    old: list[Interval], new: list[Interval], rule: OverBaseline
) -> None:
    pairs = {rule.check(_known([n], _known([o]))) for o in old for n in new}
    expected = pairs.pop() if len(pairs) == 1 else Truth.UNKNOWN
    assert rule.check(_known(new, _known(old))) is expected


_SHARED = {"system": "urn:mrn", "value": "1"}
_TWINS = (
    {"resourceType": "Patient", "id": "one", "identifier": [_SHARED]},
    {"resourceType": "Patient", "id": "two", "identifier": [_SHARED]},
)


def test_an_identifier_of_two_patients_names_neither() -> None:
    alone = shapes.result(shapes.PLATELETS, 20, subject={"identifier": _SHARED})
    by_reference = shapes.result(shapes.PLATELETS, 20, subject={"reference": "Patient/one"})
    body = shapes.bundle(*_TWINS, alone, by_reference)
    judged = operations.assessed(ASSESS_ELIGIBILITY, body)
    reading, assessed = judged.reading, judged.assessments
    counted = {one.patient.reference: len(one.counts) for one in assessed}
    assert counted == {"Patient/one": 1, "Patient/two": 0}
    (said,) = [remark for remark in reading.remarks if remark.code == "ambiguous-subject"]
    assert said.places == ("Bundle.entry[2].resource",)
    with pytest.raises(RequestError) as refused:
        operations.assessed(ASSESS_ELIGIBILITY, body, [("subject", "Patient?identifier=urn:mrn|1")])
    assert refused.value.status == 422


def test_an_identifier_of_a_patient_and_whom_he_replaces_names_him() -> None:
    old = _TWINS[0] | {"link": [{"type": "replaced-by", "other": {"reference": "Patient/two"}}]}
    alone = shapes.result(shapes.PLATELETS, 20, subject={"identifier": _SHARED})
    assessed = operations.assessed(
        ASSESS_ELIGIBILITY, shapes.bundle(old, _TWINS[1], alone)
    ).assessments
    assert [(one.patient.reference, len(one.counts)) for one in assessed] == [("Patient/two", 1)]


# Evaluations in processes of their own

BOUNDS = Bounds(
    seconds=20, steps=10_000, answer_bytes=10_000, memory_bytes=2**26, at_once=1, waiting=1
)


@pytest.fixture
def evaluator() -> Iterator[Evaluator]:
    made = Evaluator(BOUNDS)
    yield made
    made.close()


def _caller(stays: bool = True) -> Request:
    """A request whose body has been read, and whose caller waits or has gone."""

    async def receive() -> dict[str, Any]:
        if stays:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def _refused(evaluator: Evaluator, call: Callable[[], Any]) -> RequestError:
    with pytest.raises(RequestError) as refused:
        asyncio.run(evaluator.run(_caller(), call))
    return refused.value


def test_an_evaluation_is_made_in_another_process_which_is_used_again(evaluator: Evaluator) -> None:
    async def twice() -> set[int]:
        return {await evaluator.run(_caller(), os.getpid) for _ in range(2)}

    (process,) = asyncio.run(twice())
    assert process != os.getpid()


def test_a_process_that_evaluates_knows_no_token(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAA_FHIR_TOKEN", "secret")
    known = asyncio.run(evaluator.run(_caller(), partial(os.getenv, "MAA_FHIR_TOKEN")))
    assert known is None


def test_the_process_of_a_caller_who_has_gone_is_ended(evaluator: Evaluator) -> None:
    async def abandoned() -> int:
        process: int = await evaluator.run(_caller(), os.getpid)
        with pytest.raises(ClientDisconnect):
            await evaluator.run(_caller(stays=False), partial(time.sleep, 3600))
        return process

    process = asyncio.run(abandoned())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_an_evaluation_that_takes_too_long_is_ended_and_to_be_tried_again() -> None:
    evaluator = Evaluator(
        Bounds(seconds=1, steps=1, answer_bytes=1, memory_bytes=2**26, at_once=1, waiting=0)
    )
    refused = _refused(evaluator, partial(time.sleep, 3600))
    assert (refused.status, refused.retry_after) == (503, 2)
    assert "MAA_EVALUATION_SECONDS" in refused.faults[0].text
    evaluator.close()


def test_who_would_have_to_wait_behind_too_many_is_asked_to_come_again(
    evaluator: Evaluator,
) -> None:
    async def three() -> list[Any]:
        naps = (evaluator.run(_caller(), partial(time.sleep, 1)) for _ in range(3))
        return await asyncio.gather(*naps, return_exceptions=True)

    refused = [found for found in asyncio.run(three()) if found is not None]
    assert [(one.status, one.retry_after) for one in refused] == [(503, 2)]


def test_too_much_memory_and_too_many_steps_are_the_callers_to_mend(evaluator: Evaluator) -> None:
    memory = _refused(evaluator, partial(bytes, 2**30))
    assert (memory.status, memory.faults[0].type) == (413, "too-costly")
    steps = _refused(evaluator, partial(operations.eligibility, shapes.patients(1000)))
    assert (steps.status, steps.faults[0].type) == (413, "too-costly")
    assert "MAA_EVALUATION_STEPS" in steps.faults[0].text
    length = _refused(evaluator, partial(operations.eligibility, shapes.patients(10)))
    assert (length.status, length.faults[0].type) == (413, "too-costly")
    assert "MAA_MAX_ANSWER_BYTES" in length.faults[0].text


def test_what_an_earlier_task_left_refuses_nobody_what_there_is_room_for(
    evaluator: Evaluator,
) -> None:
    """There is room for 44 MB in a new process of these bounds, and for 28 in one that kept 8."""

    async def one_after_the_other() -> int:
        await evaluator.run(_caller(), partial(os.putenv, "KEPT", "x" * 2**23))
        found: int = await evaluator.run(_caller(), partial(eval, "len(bytes(38 * 2**20))"))
        return found

    assert asyncio.run(one_after_the_other()) == 38 * 2**20


def test_a_body_for_which_a_process_has_no_room_is_the_callers_to_mend(
    evaluator: Evaluator,
) -> None:
    """The process answers while the body is still being written to it."""
    refused = _refused(evaluator, partial(len, bytes(2**27)))
    assert (refused.status, refused.faults[0].type) == (413, "too-costly")


def test_a_process_with_no_memory_left_even_to_say_so_is_the_callers_to_mend(
    evaluator: Evaluator,
) -> None:
    refused = _refused(evaluator, partial(os._exit, STARVED))
    assert (refused.status, refused.faults[0].type) == (413, "too-costly")
    for library in ("raise SystemError", 'raise type("PanicException", (BaseException,), {})'):
        refused = _refused(evaluator, partial(exec, library))
        assert (refused.status, refused.faults[0].type) == (413, "too-costly")


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGALRM])
def test_who_asked_a_process_that_the_kernel_ended_is_asked_to_come_again(
    evaluator: Evaluator, ended: signal.Signals
) -> None:
    refused = _refused(evaluator, partial(signal.raise_signal, ended))
    assert (refused.status, refused.retry_after) == (503, 2)


def test_a_process_that_was_ended_while_it_waited_is_asked_nothing(evaluator: Evaluator) -> None:
    """As the kernel does where memory is short: the process has done nothing yet."""
    before = _children()
    evaluator.start()
    (waiting,) = _children() - before
    os.kill(waiting, signal.SIGKILL)
    os.waitid(os.P_PID, waiting, os.WEXITED | os.WNOWAIT)
    assert asyncio.run(evaluator.run(_caller(), os.getpid)) != waiting


def test_where_the_system_has_no_room_for_a_process_callers_are_asked_to_come_again(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    refused = _refused(evaluator, os.getpid)
    assert (refused.status, refused.retry_after) == (503, 2)


def test_a_fault_of_ours_elsewhere_is_told_without_what_was_read(evaluator: Evaluator) -> None:
    with pytest.raises(BugError) as bug:
        asyncio.run(evaluator.run(_caller(), partial(int, "Patient/secret")))
    assert str(bug.value).startswith("ValueError at ")
    assert "secret" not in str(bug.value)


def test_a_process_that_dies_is_replaced(evaluator: Evaluator) -> None:
    async def die_and_go_on() -> int:
        with pytest.raises(BugError):
            await evaluator.run(_caller(), partial(os._exit, 7))
        found: int = await evaluator.run(_caller(), os.getpid)
        return found

    assert asyncio.run(die_and_go_on()) != os.getpid()


# Bodies


def _request(chunks: AsyncIterator[bytes], settings: Settings, **headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        with suppress(StopAsyncIteration):
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    given = {"content-type": FHIR_JSON} | headers
    scope = {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "app": create_app(settings),
    }
    return Request(scope, receive)


async def _sent(request: Request) -> bytes:
    async with body_of(request) as body:
        return bytes(body.plain())


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _stalled() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(3600)


def test_a_body_that_does_not_come_in_time_is_given_up() -> None:
    request = _request(_stalled(), Settings(body_seconds=0.05))
    with pytest.raises(RequestError) as refused:
        asyncio.run(_sent(request))
    assert (refused.value.status, refused.value.closes) == (408, True)


def test_a_body_comes_together_from_its_pieces() -> None:
    request = _request(_pieces(b'{"a"', b":1", b"}"), Settings())
    assert asyncio.run(_sent(request)) == b'{"a":1}'


def test_large_bodies_beyond_the_room_come_again_and_small_ones_are_read() -> None:
    settings = Settings(max_bytes_at_once=1_000_000)

    async def together() -> tuple[int, int, int | None]:
        first = _request(_pieces(b" " * 700_000), settings)
        app = first.app
        async with body_of(first):
            second = _request(_pieces(b" " * 700_000), settings)
            second.scope["app"] = app
            with pytest.raises(RequestError) as refused:
                await _sent(second)
            small = _request(_pieces(b" " * 1000), settings)
            small.scope["app"] = app
            read = len(await _sent(small))
        again = _request(_pieces(b" " * 700_000), settings)
        again.scope["app"] = app
        assert len(await _sent(again)) == 700_000
        return refused.value.status, read, refused.value.retry_after

    assert asyncio.run(together()) == (503, 1000, 2)


def test_the_room_is_whole_again_after_every_body() -> None:
    room = Room(10)
    room.take(10, small=False)
    with pytest.raises(RequestError):
        room.take(1, small=False)
    room.give(10, small=False)
    room.take(10, small=False)


# The service


def test_health_is_answered_beside_an_evaluation(http: httpx.Client, server: str) -> None:
    """The large body is checked strictly, which takes seconds; the small ones come in between."""
    large = shapes.patients(20_000)

    async def both() -> tuple[list[int], int]:
        async with httpx.AsyncClient(base_url=server, timeout=60) as client:
            headers = {"content-type": FHIR_JSON, "prefer": "handling=strict"}
            judged = asyncio.ensure_future(client.post(OPERATION, content=large, headers=headers))
            healthy = []
            while not judged.done():
                healthy.append((await client.get("/health/live")).status_code)
            return healthy, (await judged).status_code

    healthy, _ = asyncio.run(both())
    assert set(healthy) == {200}
    assert len(healthy) > 20


def test_who_writes_a_body_that_is_too_long_to_its_end_reads_the_answer(
    server: str,
) -> None:
    """A client that knows nothing of 100-continue, and reads when it has written all."""
    length = 17 * 1024 * 1024
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        head = (
            f"POST {OPERATION} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Content-Type: {FHIR_JSON}\r\nContent-Length: {length}\r\n\r\n"
        )
        client.sendall(head.encode())
        client.sendall(b" " * length)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["issue"][0]["code"] == "too-long"


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"1" * 4301, 422, "Bundle.type"),
        (b'20, "x": "\xff"', 400, "UTF-8"),
        (b'20, "x": ' + b"[" * 960 + b"]" * 960, 400, "nested too deep"),
        (b'20, "x": "\\ud800"', 422, "Bundle.entry[0].resource.valueQuantity.x"),
        (b'20, "\\ud800": 1', 422, "Bundle.entry[0].resource.valueQuantity"),
        (b"1e99999999999999999999", 422, "Bundle.entry[0].resource.valueQuantity.value"),
    ],
    ids=["digits", "bytes", "nesting", "half a character", "half a name", "exponent"],
)
def test_a_strict_check_is_never_left_out_in_silence(
    http: httpx.Client, sent: bytes, status: int, said: str
) -> None:
    body = shapes.bundle(shapes.result(shapes.PLATELETS, 20)).replace(b"20,", sent + b",", 1)
    headers = {"content-type": FHIR_JSON, "prefer": "handling=strict"}
    answer = http.post(OPERATION, content=body, headers=headers)
    assert answer.status_code == status
    assert "preference-applied" not in answer.headers
    assert said in json.dumps(answer.json()["issue"])


def test_a_refusal_names_every_method_that_an_address_answers(http: httpx.Client) -> None:
    address = "/fhir/Patient/1/$assess-response"
    assert http.delete(address).headers["allow"] == "GET, HEAD, POST"
    assert http.get(OPERATION).headers["allow"] == "POST"


def test_nothing_of_a_request_is_kept_when_it_has_been_answered() -> None:
    """In a process of its own, for this one holds what it sends."""
    command = [sys.executable, "-m", "tests.remembered"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert told["remembered"] == []
    assert told["audited"]
    assert {200, 400, 404, 412, 415, 422, 502} <= set(told["statuses"])


# Connections


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The service with little patience and room."""
    limits = {
        "MAA_HEADER_SECONDS": "0.5",
        "MAA_BODY_SECONDS": "0.5",
        "MAA_WRITE_SECONDS": "0.5",
        "MAA_HEADER_BYTES": "4096",
        "MAA_CONNECTIONS": "8",
    }
    with serving(tmp_path_factory.mktemp("hasty") / "log", **limits) as url:
        address = urlsplit(url)
        yield str(address.hostname), int(address.port or 0)


def _told(address: tuple[str, int], *pieces: bytes) -> bytes:
    """What the service says to these pieces until it closes the connection."""
    with socket.create_connection(address, timeout=20) as client:
        for piece in pieces:
            client.sendall(piece)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer


_HEAD = f"POST {OPERATION} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FHIR_JSON}\r\n".encode()


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_head_that_does_not_come_in_time_is_given_up(
    hasty: tuple[str, int], begun: bytes
) -> None:
    assert _told(hasty, begun).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_stalls_after_an_answer_is_given_up(hasty: tuple[str, int]) -> None:
    whole = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    told = _told(hasty, whole, b"GET /health")
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in told


def test_headers_without_end_are_refused(hasty: tuple[str, int]) -> None:
    told = _told(hasty, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5000)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert json.loads(told.partition(b"\r\n\r\n")[2])["issue"][0]["code"] == "too-long"


def test_trailers_without_end_are_refused(hasty: tuple[str, int]) -> None:
    chunked = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: "
    told = _told(hasty, chunked + b"x" * 5000)
    assert b"200 OK" not in told


def test_a_body_that_stalls_is_given_up_and_its_connection_closed(hasty: tuple[str, int]) -> None:
    told = _told(hasty, _HEAD + b"Content-Length: 100\r\n\r\n{")
    assert told.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_goes_on_after_its_answer_is_cut_off(hasty: tuple[str, int]) -> None:
    other = _HEAD.replace(FHIR_JSON.encode(), b"text/plain") + b"Transfer-Encoding: chunked\r\n\r\n"
    told = _told(hasty, other, b"1\r\n{\r\n")
    assert told.startswith(b"HTTP/1.1 415 ")


def test_more_connections_than_there_may_be_are_refused(hasty: tuple[str, int]) -> None:
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(socket.create_connection(hasty))
        assert _told(hasty).startswith(b"HTTP/1.1 503 ")


def test_who_does_not_read_an_answer_is_cut_off(hasty: tuple[str, int]) -> None:
    body = shapes.patients(2000)
    with socket.create_connection(hasty, timeout=20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(1024)
        time.sleep(3)
        read = 0
        with suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                read += len(chunk)
    assert read < 10_000_000


# The FHIR server


def _server(slow: asyncio.Event, limits: Limits) -> tuple[FhirServer, list[str]]:
    """A FHIR server on which the patients `slow-...` have their data when the event is set."""
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if "slow" in str(request.url):
            await slow.wait()
        name = request.url.path.rpartition("/")[2]
        found = {"resourceType": "Bundle", "type": "searchset"}
        if "Patient/" in request.url.path:
            found = {"resourceType": "Patient", "id": name}
        return httpx.Response(200, content=_pieces(json.dumps(found).encode()))

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return FhirServer("http://localhost/fhir", limits=limits, client=client), asked


def test_slow_patients_keep_no_other_waiting() -> None:
    async def beside() -> Entries:
        released = asyncio.Event()
        server, _ = _server(released, Limits())
        slow = [asyncio.ensure_future(server.patient_data(f"slow-{i}")) for i in range(7)]
        await asyncio.sleep(0)
        found = await server.patient_data("healthy")
        assert not any(one.done() for one in slow)
        released.set()
        await asyncio.gather(*slow)
        return found

    assert any(b"healthy" in bytes(entry.resource) for entry in asyncio.run(beside()))  # type: ignore[arg-type]


def test_who_would_wait_long_for_a_busy_fhir_server_is_asked_to_come_again() -> None:
    async def beside() -> RequestError:
        released = asyncio.Event()
        server, asked = _server(released, Limits(connections=4, wait_seconds=0.01))
        slow = [asyncio.ensure_future(server.patient_data(f"slow-{i}")) for i in range(4)]
        while len(asked) < 4:
            await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await server.patient_data("healthy")
        released.set()
        await asyncio.gather(*slow, return_exceptions=True)
        assert not server.resting
        return refused.value

    refused = asyncio.run(beside())
    assert (refused.status, refused.retry_after) == (503, 2)


def test_no_process_is_left_when_the_service_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as url:
        port = urlsplit(url).port
        (service,) = (p for p in _processes() if f"--port\0{port}" in p[1])
        children = [pid for pid, command in _processes() if _parent(pid) == service[0]]
        assert children
        os.kill(service[0], 9)
        give_up = time.monotonic() + 20
        while any(Path(f"/proc/{pid}/cmdline").exists() for pid in children):
            assert time.monotonic() < give_up
            time.sleep(0.05)


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_text()


def _children() -> set[int]:
    return {pid for pid, _ in _processes() if _parent(pid) == os.getpid()}


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
