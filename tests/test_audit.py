"""What is written down of each patient assessed, and that none of it is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import stat
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from app.access.sinks import Delivery, SinkError, ToFile, ToServer
from app.access.spool import OneOfMany, Spool, SpoolError
from app.logs import configure_logs
from app.settings import Settings
from tests.conftest import FHIR_JSON, OPERATION, ROOT, free_port, running
from tests.test_ehr import ELIGIBILITY, Asked, Reply, calling, ordinary, serving
from tests.test_tokens import AUDIENCE, DATA, Hospital, Service

THREE = json.loads((ROOT / "fixtures/three-patients/request.json").read_text())
COHORT = json.loads((ROOT / "fixtures/daclizumab-2003/bundle.json").read_text())
HOOK = json.loads(
    (ROOT / "fixtures/hemoglobin-low-reticulocytes-missing/patient-view.json").read_text()
)
HEADERS = {"content-type": FHIR_JSON}


def audited(folder: Path, **settings: Any) -> Settings:
    given: dict[str, Any] = {
        "audit": f"file://{folder}/audit.jsonl",
        "audit_spool": folder / "spool",
    }
    return Settings(**given | settings)


def spooled(client: Any) -> list[Any]:
    """The events that wait."""
    spool: Spool = client.app.state.delivery._spool
    return [json.loads(event) for _, event in spool.oldest(1000)]


def require_balp(event: Any) -> None:
    """FHIR R4, and what IHE's PatientQuery and the Query it is derived from ask for.

    https://profiles.ihe.net/ITI/BALP/StructureDefinition-IHE.BasicAudit.PatientQuery.html (1.1.4)
    """
    AuditEvent.model_validate(event)
    terms = "http://terminology.hl7.org/CodeSystem"
    assert event["type"] == {"system": f"{terms}/audit-event-type", "code": "rest"}
    assert event["subtype"]
    assert event["action"] == "E"
    assert event["recorded"].endswith("Z")
    assert event["outcome"] == "0"
    roles = [agent["type"]["coding"][0] for agent in event["agent"]]
    dicom = "http://dicom.nema.org/resources/ontology/DCM"
    for code in ("110153", "110152"):
        assert roles.count({"system": dicom, "code": code}) == 1
    for agent in event["agent"]:
        assert agent["who"]
        assert "media" not in agent
        is_user = agent["type"]["coding"][0]["code"] == "IRCP"
        assert is_user != ("network" in agent)
        if is_user:
            assert agent["requestor"] is True
    # FHIR: "there should be only one requestor"
    assert sum(agent["requestor"] for agent in event["agent"]) == 1
    entities = {one["type"]["code"]: one for one in event["entity"]}
    assert len(event["entity"]) == 3
    patient, query, transaction = entities["1"], entities["2"], entities["XrequestId"]
    assert patient["type"]["system"] == query["type"]["system"] == f"{terms}/audit-entity-type"
    assert patient["role"] == {"system": f"{terms}/object-role", "code": "1"}
    assert patient["what"]["type"] == "Patient"
    assert query["role"] == {"system": f"{terms}/object-role", "code": "24"}
    assert not {"what", "lifecycle", "detail"} & set(query)
    assert b64decode(query["query"])
    assert transaction["what"]["identifier"]["value"]
    assert event["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientQuery"
    ]


def patients(events: list[Any]) -> set[str]:
    return {event["entity"][0]["what"]["reference"] for event in events}


def test_an_event_says_who_asked_what_of_whom_and_when(tmp_path: Path) -> None:
    hospital = Hospital()
    with serving(hospital) as stub:
        hospital.issuer = f"{stub.host}/auth"
        settings = audited(
            tmp_path,
            auth_issuer=hospital.issuer,
            auth_audience=[AUDIENCE],
            public_url="https://maa.example.org",
        )
        with calling(settings) as client:
            one = Service(client, stub, hospital)
            token = one.token(sub="dr-who", client_id="chart", scope="user/*.rs")
            answer = one.post(token, DATA, f"{OPERATION}?asOf=2024-03-06")
            assert answer.status_code == 200
            (event,) = spooled(client)
            require_balp(event)
            client_agent, server_agent, user_agent = event["agent"]
            assert client_agent["who"] == {"identifier": {"value": "chart"}}
            assert client_agent["network"] == {"address": "127.0.0.1", "type": "2"}
            assert server_agent["who"] == {"identifier": {"value": "maa.example.org"}}
            assert user_agent["who"] == {
                "identifier": {"system": hospital.issuer, "value": "dr-who"}
            }
            patient, query, transaction = event["entity"]
            assert patient["what"] == {"reference": "Patient/1", "type": "Patient"}
            asked = b64decode(query["query"]).decode()
            assert asked == f"POST {OPERATION}?asOf=2024-03-06"
            said = transaction["what"]["identifier"]["value"]
            assert said == answer.headers["x-request-id"]
            assert abs(time.time() - _seconds(event["recorded"])) < 60
            # A program that asks for itself is the one who asks.
            assert one.post(one.token()).status_code == 200
            require_balp(spooled(client)[1])


def _seconds(recorded: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(recorded).timestamp()


def test_every_operation_writes_an_event_for_each_patient(tmp_path: Path) -> None:
    with serving(ordinary) as stub:
        settings = audited(tmp_path, fhir_server=stub.base, cds_newest_within_days=0)
        with calling(settings) as client:

            def told(path: str, body: Any) -> list[Any]:
                before = len(spooled(client))
                answer = client.post(path, json=body, headers=HEADERS)
                assert answer.status_code == 200, answer.text
                return spooled(client)[before:]

            three = told(OPERATION, THREE)
            assert len(three) == len(patients(three)) == 3
            assert len(told("/fhir/$assess-response", COHORT)) == 17
            measure = "/fhir/Measure/maa-hematologic-response/$evaluate-measure"
            assert len(told(measure, COHORT)) == 17
            assert patients(told("/fhir/$plot", DATA)) == {"Patient/1"}
            assert patients(told("/fhir/ResearchStudy/$match", DATA)) == {"Patient/1"}
            assert len(told("/cds-services/maa-eligibility", HOOK)) == 1
            assert patients(told(ELIGIBILITY, {"resourceType": "Parameters"})) == {"Patient/1"}
            # By several definitions he is one patient all the same.
            twice = f"{OPERATION}?criteria=nih-daclizumab-2003&criteria=nih-severe"
            assert len(told(twice, DATA)) == 1
            for event in spooled(client):
                require_balp(event)
            before = len(spooled(client))
            assert client.get(ELIGIBILITY).status_code == 200
            (read,) = spooled(client)[before:]
            assert b64decode(read["entity"][1]["query"]).decode() == f"GET {ELIGIBILITY}"


def test_a_large_body_is_written_down_as_a_small_one_is(tmp_path: Path) -> None:
    with calling(audited(tmp_path)) as client:
        many = json.loads(json.dumps(DATA))
        many["entry"] += [
            {"resource": many["entry"][1]["resource"] | {"id": f"o{n}"}} for n in range(600)
        ]
        assert client.post(OPERATION, json=many, headers=HEADERS).status_code == 200
        assert patients(spooled(client)) == {"Patient/1"}


def test_what_assesses_nobody_writes_nothing(tmp_path: Path) -> None:
    with calling(audited(tmp_path)) as client:
        for body in (b"{", b'{"resourceType":"Bundle"}', b"[]"):
            assert client.post(OPERATION, content=body, headers=HEADERS).status_code >= 400
        client.get("/fhir/metadata")
        client.get("/fhir/PlanDefinition")
        assert spooled(client) == []
    with calling(Settings()) as client:
        assert client.app.state.delivery is None


# None is lost


def test_while_events_cannot_be_kept_nobody_is_answered_unless_that_is_wanted(
    tmp_path: Path, outcome_of: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logs("debug", "json")
    for required in (True, False):
        with calling(audited(tmp_path / str(required), audit_required=required)) as client:
            # As a full disk has it: SQLite may take no further page.
            spool: Spool = client.app.state.delivery._spool
            (pages,) = spool._file.execute("PRAGMA page_count").fetchone()
            spool._file.execute(f"PRAGMA max_page_count = {pages}")
            answer = client.post(OPERATION, json=COHORT, headers=HEADERS)
            assert answer.status_code == (503 if required else 200)
            if required:
                assert "MAA_AUDIT" in outcome_of(answer)["issue"][0]["diagnostics"]
                assert answer.headers["retry-after"]
                assert "entry" not in answer.text
            assert spooled(client) == []
            spool._file.execute("PRAGMA max_page_count = 100000")
            assert client.post(OPERATION, json=DATA, headers=HEADERS).status_code == 200
            assert len(spooled(client)) == 1
    told = capfd.readouterr().err
    lines = [json.loads(line) for line in told.splitlines()]
    unwritten = [one for one in lines if one["message"] == "audit is not written"]
    assert [(one["patients"], one["answered"]) for one in unwritten] == [(17, False), (17, True)]
    assert "full" in unwritten[0]["why"]
    assert "Patient/" not in told


def test_no_more_wait_than_may_and_of_one_request_all_or_none(tmp_path: Path) -> None:
    with calling(audited(tmp_path, audit_spool_events=4)) as client:
        assert client.post(OPERATION, json=THREE, headers=HEADERS).status_code == 200
        refused = client.post(OPERATION, json=THREE, headers=HEADERS)
        assert refused.status_code == 503
        assert len(spooled(client)) == 3
        client.app.state.delivery._spool.delivered(2)
        assert client.post(OPERATION, json=THREE, headers=HEADERS).status_code == 200
        assert len(spooled(client)) == 4


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def post(url: str) -> httpx.Response:
    return httpx.post(f"{url}{OPERATION}", json=THREE, headers=HEADERS, timeout=30)


def test_what_was_answered_reaches_a_server_that_was_down_though_the_service_is_killed(
    tmp_path: Path,
) -> None:
    down, taken = [True], []

    def reply(asked: Asked) -> Reply:
        if down[0]:
            return 503, {}, b""
        assert asked.path == "/fhir/AuditEvent"
        assert asked.headers["authorization"] == "Bearer s3cr3t"
        taken.append(asked.headers["content-type"])
        return 201, {}, b""

    with serving(reply) as stub:
        settings = {
            "MAA_AUDIT": stub.base,
            "MAA_AUDIT_SPOOL": str(tmp_path / "spool"),
            "MAA_AUDIT_TOKEN": "s3cr3t",
        }

        def start(name: str) -> Any:
            port = free_port()
            command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
            url = f"http://127.0.0.1:{port}"
            return url, running(command, tmp_path / name, f"{url}/health/live", 60, settings)

        url, first = start("first")
        with first as process:
            assert [post(url).status_code for _ in range(4)] == [200] * 4
            until(lambda: "audit is not delivered" in (tmp_path / "first").read_text())
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        assert taken == []
        down[0] = False
        _, second = start("second")
        with second:
            until(lambda: len(taken) == 12)
    logs = (tmp_path / "first").read_text() + (tmp_path / "second").read_text()
    assert "Patient/" not in logs
    assert "s3cr3t" not in logs


def test_workers_share_one_spool_and_each_event_arrives_once(tmp_path: Path) -> None:
    file, port = tmp_path / "audit.jsonl", free_port()
    settings = {
        "MAA_AUDIT": f"file://{file}",
        "MAA_AUDIT_SPOOL": str(tmp_path / "spool"),
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--workers", "2", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, tmp_path / "log", f"{url}/health/live", 60, settings):
        assert [post(url).status_code for _ in range(30)] == [200] * 30
        until(lambda: file.exists() and len(file.read_text().splitlines()) >= 90)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(events) == len({event["id"] for event in events}) == 90
    for event in events[:3]:
        require_balp(event)


def test_nobody_else_reads_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with calling(audited(tmp_path)) as client:
            client.post(OPERATION, json=DATA, headers=HEADERS)
            asyncio.run(ToFile(tmp_path / "audit.jsonl").deliver([b"{}"]))
            modes = {
                path.name: stat.S_IMODE(path.stat().st_mode) for path in (*tmp_path.rglob("*"),)
            }
    finally:
        os.umask(before)
    assert modes.pop("spool") == 0o700
    assert {"audit.db", "audit.db-wal", "audit.lock", "audit.jsonl"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_full_file_holds_whole_lines_and_the_rest_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "audit.jsonl"
    sink = ToFile(file)
    asyncio.run(sink.deliver([b'{"id":"1"}']))
    write, room = os.write, [5]

    def little(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as full:
        full.setattr(os, "write", little)
        with pytest.raises(SinkError, match="No space left"):
            asyncio.run(sink.deliver([b'{"id":"2"}', b'{"id":"3"}']))
    assert file.read_text() == '{"id":"1"}\n'
    with pytest.raises(SinkError, match="No space left"):
        asyncio.run(ToFile(Path("/dev/full")).deliver([b"{}"]))


def test_delivery_goes_on_when_its_sink_is_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info", "json")

    class Moody:
        def __init__(self) -> None:
            self.moods: list[Any] = [SinkError("away"), ValueError("Patient/1"), 2, 3, 1]
            self.taken: list[bytes] = []

        async def deliver(self, events: list[bytes]) -> int:
            mood = self.moods.pop(0)
            if isinstance(mood, Exception):
                raise mood
            self.taken += events[:mood]
            return int(mood)

        async def aclose(self) -> None: ...

    async def deliver() -> list[bytes]:
        spool, sink = Spool(tmp_path, 100), Moody()
        events = [b"%d" % n for n in range(6)]
        spool.put(events)
        delivery = Delivery(spool, sink, tmp_path)  # type: ignore[arg-type]
        # Without the pauses.
        delivery._pause = lambda _seconds: asyncio.sleep(0)  # type: ignore[assignment, method-assign]
        delivery.start()
        while len(sink.taken) < 6:
            await asyncio.sleep(0.01)
        await delivery.aclose()
        return sink.taken

    assert asyncio.run(deliver()) == [b"%d" % n for n in range(6)]
    told = capfd.readouterr().err
    assert told.count("audit is not delivered") == 2
    assert "Patient/1" not in told


@pytest.mark.parametrize("statuses", [[201, 400, 201], [503, 201, 201]])
def test_events_that_a_server_refuses_stay(statuses: list[int]) -> None:
    left = list(statuses)

    async def deliver(base: str) -> int | str:
        sink = ToServer(base, None)
        try:
            return await sink.deliver([b"{}", b"{}", b"{}"])
        except SinkError as error:
            return str(error)
        finally:
            await sink.aclose()

    with serving(lambda _: (left.pop(0), {}, b"{}")) as stub:
        took = asyncio.run(deliver(stub.base))
    assert took == (1 if statuses[0] == 201 else "the server answers 503")
    assert asyncio.run(deliver(stub.base)) == "the server does not answer"


def test_one_process_delivers_at_a_time(tmp_path: Path) -> None:
    first, second = OneOfMany(tmp_path / "lock"), OneOfMany(tmp_path / "lock")
    with first as ours, second as theirs:
        assert (ours, theirs) == (True, False)
    with second as theirs:
        assert theirs
    first.close()
    second.close()


def test_a_spool_that_cannot_be_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError):
        Spool(tmp_path / "file", 10)
    (tmp_path / "audit.db").write_bytes(b"x" * 5000)
    with pytest.raises(SpoolError, match="not a database"):
        Spool(tmp_path, 10)
