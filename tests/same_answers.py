"""Whether two checkouts answer alike, to the byte: stories, cards, exports, definitions, OpenAPI.

python -m tests.same_answers BEFORE [AFTER [KEPT]]

Both are asked the same, each in a process of its own with its own `app`; the stories are AFTER's.
Prints what differs, and exits with 1 where anything does. AFTER is this checkout if not named; its
answers are kept in a directory KEPT, which may later stand in BEFORE's place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

HERE = Path(__file__).parent.parent
PAPERS = [
    "nih-daclizumab-2003",
    "emaa",
    "nih-severe",
    "camitta-severe-1976",
    "howard-2004-pediatric",
]
QUERIES = {
    "plain": "",
    "asked": "?asOf=2024-01-01T00:00:00Z&window=7&redCellPolicy=reticulocytes-only&subject=1"
    "&transfusionHistory=complete&study=ResearchStudy/1&_pretty=true",
    "papers": "?" + "&".join(f"criteria={name}" for name in PAPERS),
    "treated": "?treatmentStart=2002-01-01&redCellPolicy=reticulocytes-when-transfused",
    "wrong": "?asOf=never&window=0&redCellPolicy=x&transfusionHistory=x&study=x&subject=/&more=1",
    "twice": "?window=3&window=4&criteria=unknown&codeMap=1",
}
OPERATIONS = {
    "eligibility": "/fhir/$assess-eligibility",
    "response": "/fhir/$assess-response",
    "measure": "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
}
DEFINITIONS = [
    "CodeSystem",
    "ConceptMap",
    "Group",
    "Library",
    "Measure",
    "OperationDefinition",
    "PlanDefinition",
    "ResearchStudy",
    "StructureDefinition",
    "ValueSet",
]
# Of which everything is asked; of the others what differs from story to story.
DEEPLY = ("as-of", "daclizumab-2003", "hospital-codes", "merged-patient", "three-patients")
HOSTNAME = "http://localhost"
_LINES_DIFFERENT = 12
_WIDTH = 200

Json = dict[str, Any]


def main() -> int:
    """Ask both, and compare; or, as a process of its own, ask one."""
    if sys.argv[1] == "--ask":
        asyncio.run(_ask_all(Path(sys.argv[2]), Path(sys.argv[3])))
        return 0
    before = Path(sys.argv[1]).resolve()
    after = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else HERE
    with tempfile.TemporaryDirectory() as scratch:
        export = Path(scratch) / "export"
        _write_export(export, after)
        answers = [Path(scratch) / "before", Path(scratch) / "after"]
        asked = list(zip((before, after), answers, strict=True))
        if not (before / "app").is_dir():
            answers[0] = before
            del asked[0]
        with _ehr(after) as ehr:
            processes = [_asked(one, out, after, export, ehr) for one, out in asked]
            codes = [process.wait() for process in processes]
        if len(sys.argv) > 3:
            shutil.copytree(answers[1], sys.argv[3])
        if any(codes):
            return 2
        return _compared(*answers)


def _asked(
    checkout: Path, out: Path, stories: Path, export: Path, ehr: str
) -> subprocess.Popen[bytes]:
    out.mkdir()
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MAA_")}
    environment |= {
        "PYTHONPATH": str(checkout),
        "MAA_FHIR_SERVER": ehr,
        "MAA_CDS_FHIR_SERVERS": ehr,
        "MAA_CDS_NEWEST_WITHIN_DAYS": "0",
        "SAME_ANSWERS_EXPORT": str(export),
        "SAME_ANSWERS_CHECKOUT": str(checkout),
    }
    command = [sys.executable, "-P", __file__, "--ask", str(stories), str(out)]
    return subprocess.Popen(command, cwd=checkout, env=environment)


def _compared(before: Path, after: Path) -> int:
    names = sorted(
        {str(p.relative_to(root)) for root in (before, after) for p in root.rglob("*.*")}
    )
    different = 0
    for name in names:
        contents = [
            (root / name).read_bytes() if (root / name).is_file() else b""
            for root in (before, after)
        ]
        if contents[0] == contents[1]:
            continue
        different += 1
        texts = [content.decode("utf-8", "replace") for content in contents]
        sys.stdout.write(f"DIFFERENT {name}\n")
        lines = [_lines(text) for text in texts]
        told = list(unified_diff(*lines, "before", "after", n=0, lineterm=""))  # type: ignore[arg-type, call-arg, misc]
        for line in told[2 : 2 + _LINES_DIFFERENT]:
            sys.stdout.write(f"    {line[:_WIDTH]}\n")
    heads = Counter(p.read_bytes()[:3].decode() for p in after.glob("*/*.json"))
    told = ", ".join(f"{head} {count}" for head, count in sorted(heads.items()) if head.isdigit())  # type: ignore[assignment]
    sys.stdout.write(f"{len(names)} answers ({told}), {different} different\n")
    return 1 if different or not names else 0


def _lines(text: str) -> list[str]:
    """JSON line by line, below the status."""
    head, _, content = text.partition("\n")
    try:
        return [head, *json.dumps(json.loads(content), indent=1).splitlines()]
    except ValueError:
        return text.splitlines()


# What both are asked


def stories(checkout: Path) -> dict[str, Json]:
    """The Bundle or Parameters of each story."""
    found = sorted((checkout / "fixtures").glob("*/*.json"))
    return {
        path.parent.name: json.loads(path.read_bytes())
        for path in found
        if path.name in {"request.json", "bundle.json"}
    }


def resources_of(story: Json) -> list[Json]:
    """The resources of a story's Bundle."""
    if story["resourceType"] == "Parameters":
        (story,) = (p["resource"] for p in story["parameter"] if p["name"] == "data")
    return [entry["resource"] for entry in story.get("entry", []) if "resource" in entry]


def _subject(resource: Json) -> str:
    return str(resource.get("subject", {}).get("reference", ""))


def _bodies(name: str, story: Json) -> Iterator[tuple[str, str, Json]]:
    """For each operation and query the address and the body."""
    for operation, address in OPERATIONS.items():
        data = "additionalData" if operation == "measure" else "data"
        for query, text in QUERIES.items():
            if name not in DEEPLY and query not in {"plain", "papers", "treated"}:
                continue
            body = story
            if operation == "measure":
                entry = [{"resource": one} for one in resources_of(story)]
                bundle = {"resourceType": "Bundle", "type": "collection", "entry": entry}
                body = {
                    "resourceType": "Parameters",
                    "parameter": [
                        {"name": "reportType", "valueCode": "subject-list"},
                        {"name": "periodStart", "valueDate": "2000-01-01"},
                        {"name": data, "resource": bundle},
                    ],
                }
            yield f"{name}/{operation}-{query}", address + text, body


def _call(resources: list[Json], patient: str, ehr: str = "") -> Json:
    """A call of a CDS service: all data under one key, or to be fetched."""
    keys = [
        "patient",
        "neutrophils",
        "platelets",
        "hemoglobin",
        "reticulocytes",
        "panels",
        "weight",
        "transfusions",
        "drugs",
    ]
    prefetch: Json = dict.fromkeys(keys)
    prefetch["platelets"] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": one, "fullUrl": "urn:uuid:1"} for one in resources[:1]]
        + [{"resource": one, "search": {"mode": "match"}} for one in resources[1:]],
    }
    call: Json = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": patient, "encounterId": "1"},
        "prefetch": prefetch,
    }
    if ehr:
        del prefetch["platelets"]
        call |= {
            "fhirServer": ehr,
            "fhirAuthorization": {
                "access_token": "t",
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "s",
                "subject": "s",
            },
        }
    return call


async def _ask_all(checkout: Path, out: Path) -> None:
    import httpx

    import app
    from app.main import create_app

    own = Path(os.environ["SAME_ANSWERS_CHECKOUT"])
    if own not in Path(app.__file__).parents:
        raise SystemExit(f"{app.__file__} is not of {own}")
    ehr = os.environ["MAA_FHIR_SERVER"]
    service = create_app()
    logging.disable()
    transport = httpx.ASGITransport(service)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=HOSTNAME, timeout=60) as client:
            for name, method, address, body in _requests(checkout, ehr):
                headers = {"content-type": "application/fhir+json", "accept-encoding": "identity"}
                if "-strict" in name:
                    headers["prefer"] = "handling=strict"
                content = json.dumps(body).encode() if body is not None else None
                answer = await client.request(method, address, content=content, headers=headers)
                _keep(out, name, f"{answer.status_code}\n", answer.content)
    finally:
        service.state.evaluator.close()
    _export_all(Path(os.environ["SAME_ANSWERS_EXPORT"]), out)


def _requests(checkout: Path, ehr: str) -> Iterator[tuple[str, str, str, Json | None]]:
    """Name, method, address and body of everything asked over HTTP."""
    for kind in DEFINITIONS:
        yield f"definitions/{kind}", "GET", f"/fhir/{kind}", None
    for address in ("/openapi.json", "/cds-services", "/fhir/metadata"):
        yield f"definitions/{address.rpartition('/')[2]}", "GET", address, None
    for name, story in stories(checkout).items():
        for told, address, body in _bodies(name, story):
            yield told, "POST", address, body
        resources = resources_of(story)
        if name in DEEPLY:
            yield f"{name}/eligibility-strict", "POST", OPERATIONS["eligibility"], story
            # So long that it is judged in another process.
            long = {"resourceType": "Bundle", "type": "collection", "entry": []}
            long["entry"] = [{"resource": one} for one in resources] + [  # type: ignore[assignment]
                {"resource": {"resourceType": "Binary", "data": "A" * 140_000}}
            ]
            yield f"{name}/eligibility-long", "POST", OPERATIONS["eligibility"], long
        subjects = sorted({s for one in resources if (s := _subject(one)).startswith("Patient/")})
        for subject in subjects[: 3 if name in DEEPLY else 1]:
            patient = subject.partition("/")[2]
            own = [one for one in resources if _subject(one) in {subject, ""}]
            for service in ("maa-eligibility", "maa-response"):
                for way, some in (("own", own), ("all", resources)):
                    call = _call(some, patient)
                    yield (
                        f"{name}/{service}-{patient}-{way}",
                        "POST",
                        f"/cds-services/{service}",
                        call,
                    )
            yield from _fetched(name, patient, ehr)


def _fetched(name: str, patient: str, ehr: str) -> Iterator[tuple[str, str, str, Json | None]]:
    """What is read from a FHIR server: by CDS Hooks, and by the operations on a Patient."""
    on_server = f"{name}.{patient}"
    for service in ("maa-eligibility", "maa-response"):
        call = _call([], on_server, ehr)
        yield f"{name}/{service}-{patient}-fetched", "POST", f"/cds-services/{service}", call
    for operation in ("assess-eligibility", "assess-response"):
        address = f"/fhir/Patient/{on_server}/${operation}"
        yield f"{name}/{operation}-{patient}", "GET", address, None
        if name in DEEPLY:
            yield f"{name}/{operation}-{patient}-strict", "GET", address, None
        parameters = {
            "resourceType": "Parameters",
            "parameter": [{"name": "criteria", "valueCode": "nih-daclizumab-2003"}],
        }
        yield f"{name}/{operation}-{patient}-post", "POST", f"{address}?window=20", parameters


def _keep(out: Path, name: str, head: str, content: bytes) -> None:
    path = out / f"{quote(name, safe='/')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + content.decode("utf-8"), "utf-8")


# Exports


def _write_export(folder: Path, checkout: Path) -> None:
    """All stories' resources as lines, each story's under names of its own."""
    folder.mkdir()
    lines: dict[str, list[str]] = {}
    for name, story in stories(checkout).items():
        for one in resources_of(story):
            text = re.sub(r'"(Patient|[A-Z]\w+)/(?=[\w.-]+")', rf'"\1/{name}.', json.dumps(one))
            own = json.loads(text)
            if "id" in own:
                own["id"] = f"{name}.{own['id']}"[:64]
            lines.setdefault(own.get("resourceType", "Other"), []).append(json.dumps(own))
    for kind, some in lines.items():
        (folder / f"{kind}.ndjson").write_text("\n".join(some) + "\n", "utf-8")


def _export_all(export: Path, out: Path) -> None:
    """Results of the export by both commands, and of every story as a file."""
    ways = {
        "screen": ["screen", str(export), "--criteria", "emaa", "--criteria", PAPERS[0]],
        "screen-open": ["screen", str(export), "--assessments", "open", "--window", "60"],
        "response": ["response", str(export), "--treatment-start", "2002-01-01"],
    }
    for name, way in ways.items():
        folder = out / "exports" / name
        command = [sys.executable, "-P", "-m", "app.cli", *way, "--out", str(folder)]
        ended = subprocess.run([*command, "--workers", "1"], capture_output=True, check=False)
        told = [line for line in ended.stderr.splitlines() if line.startswith(b"maa-assess:")]
        said = (ended.stdout + b"\n".join(told)).replace(str(folder).encode(), b"DIR")
        _keep(out, f"exports/{name}-said", f"{ended.returncode}\n", said)


# A FHIR server with every story's patients


@contextmanager
def _ehr(checkout: Path) -> Iterator[str]:
    held = {name: resources_of(story) for name, story in stories(checkout).items()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            status, found = _found(held, url.path.removeprefix("/fhir/"), parse_qs(url.query))
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/fhir+json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/fhir"
        server.shutdown()


def _found(held: dict[str, list[Json]], path: str, query: dict[str, list[str]]) -> tuple[int, Json]:
    kind, _, name = path.partition("/")
    if name:
        return 200, {"resourceType": kind, "id": name}
    patient = query["patient"][0]
    story, _, number = patient.partition(".")
    codes = {token.rpartition("|")[2] for token in query.get("code", [""])[0].split(",")} - {""}
    matching = [
        one | {"subject": {"reference": f"Patient/{patient}"}}
        for one in held[story]
        if one.get("resourceType") == kind
        and _subject(one) == f"Patient/{number}"
        and (not codes or codes & _codes(one))
    ]
    entry = [{"resource": one, "search": {"mode": "match"}} for one in matching]
    return 200, {"resourceType": "Bundle", "type": "searchset", "entry": entry}


def _codes(resource: Json) -> set[str]:
    codings = resource.get("code", {}).get("coding", [])
    return {coding.get("code", "") for coding in codings}


if __name__ == "__main__":
    sys.exit(main())
