"""The rule of rule.cql in other engines: cql-execution (Node) and fhir4ds-v2 (Python, DuckDB).

rule.elm.json is rule.cql as HL7's reference translator (cql-to-elm 3.29.0) writes it, without
annotations. It states the rule alone: newest counts, two of three lineages, one unit each.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NODE_FOLDER = HERE.parent / "build" / "cql-execution"


class AbsentError(Exception):
    """Why an engine cannot be measured here."""


def with_patient(body: bytes) -> dict[str, Any]:
    """The Bundle with the Patient resource that CQL's patient context asks for."""
    whole: dict[str, Any] = json.loads(body)
    subject = whole["entry"][0]["resource"]["subject"]["reference"]
    patient = {"resourceType": "Patient", "id": subject.removeprefix("Patient/")}
    whole["entry"].insert(0, {"resource": patient})
    return whole


class CqlExecution:
    """cql-execution in a Node process, its library loaded beforehand: its best case."""

    def __init__(self) -> None:
        node, npm = shutil.which("node"), shutil.which("npm")
        if not node or not npm:
            raise AbsentError("Node.js or npm is not installed here")
        self._node = node
        NODE_FOLDER.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", "cql_execution.js", "rule.elm.json"):
            shutil.copy(HERE / name, NODE_FOLDER)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if not (NODE_FOLDER / "node_modules").exists():
            done = subprocess.run(command, cwd=NODE_FOLDER, check=False, capture_output=True)
            if done.returncode:
                raise AbsentError("npm could not install cql-execution")

    def medians(self, bodies: Sequence[bytes], rounds: int) -> tuple[list[float], list[bool]]:
        """For each round the median milliseconds of a Bundle, and every verdict."""
        lines = "\n".join(json.dumps(with_patient(body)) for body in bodies)
        command = [self._node, "cql_execution.js", str(rounds)]
        done = subprocess.run(
            command, cwd=NODE_FOLDER, input=lines, text=True, check=True, capture_output=True
        )
        told = json.loads(done.stdout)
        return told["medians"], told["verdicts"]


def fhir4ds() -> Callable[[bytes], bool]:
    """fhir4ds-v2 with the rule translated to SQL beforehand: load one Bundle, judge it."""
    try:
        import fhir4ds  # noqa: PLC0415 may be absent
        from fhir4ds.cql import parse_cql  # noqa: PLC0415
        from fhir4ds.cql.translator import CQLToSQLTranslator  # noqa: PLC0415
    except ImportError as error:
        raise AbsentError(f"fhir4ds-v2 is not installed here ({error.name})") from None
    connection = fhir4ds.create_connection()
    connection.execute(
        "CREATE TABLE resources "
        "(id VARCHAR, resourceType VARCHAR, resource JSON, patient_ref VARCHAR)"
    )
    # It knows FHIR's primitive values without their wrapper.
    rule = (HERE / "rule.cql").read_text().replace(".value.value", ".value")
    library = parse_cql(rule.replace("status.value", "status"))
    sql = CQLToSQLTranslator(connection=connection).translate_library_to_population_sql(
        library=library, output_columns={"eligible": "Eligible"}, parameters={}, patient_ids=None
    )

    def judge(body: bytes) -> bool:
        resources = [entry["resource"] for entry in with_patient(body)["entry"]]
        patient = resources[0]["id"]
        rows = [(r["id"], r["resourceType"], json.dumps(r), patient) for r in resources]
        connection.execute("DELETE FROM resources")
        connection.executemany("INSERT INTO resources VALUES (?, ?, ?, ?)", rows)
        found = connection.execute(sql).fetchall()
        return bool(found[0][1])

    return judge
