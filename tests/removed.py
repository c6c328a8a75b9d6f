"""Takes each control away, one at a time, and sees the test named for it fail.

`python -m tests.removed [ID ...]` works in a copy of the checkout; docs/security.md and
docs/safety.md mark the rows that are tried here. It ends with 1 where a test passed without its
control, or a control is no longer found as it is written here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# pytest's own exit codes; any other is no answer.
_PASSED, _FAILED = 0, 1


class Removal(NamedTuple):
    """A control, as it stands in the source, and what stands there without it."""

    file: str
    control: str
    without: str
    tests: str
    """The file of the test that must fail, and a part of its name."""


REMOVALS: dict[str, Removal] = {
    # Threats
    "S1": Removal(
        "app/body.py",
        "    if len(plain) > limit:",
        "    if False:",
        "tests/test_definitions.py::test_gzip_that_cannot_be_read_is_refused",
    ),
    "S3": Removal(
        "app/domain/dependence.py",
        "    spend(len(course.transfusions) + len(course.no_transfusions))\n",
        "",
        "tests/test_walls.py::test_what_grows_faster_than_its_body_is_counted_as_fast_as_it_grows",
    ),
    "S4": Removal(
        "app/worker.py",
        "    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))\n",
        "",
        "tests/test_walls.py::test_too_much_memory_and_too_many_steps_are_the_callers_to_mend",
    ),
    "S5": Removal(
        "app/turns.py",
        "        if len(self._queue) >= self._waiting or (caller and 2 * ours >= self._waiting):",
        "        if False:",
        "tests/test_walls.py::test_who_would_have_to_wait_behind_too_many_is_asked_to_come_again",
    ),
    "S7": Removal(
        "app/connections.py",
        "        if self._without_body > self._limits.header_bytes:",
        "        if False:",
        "tests/test_walls.py::test_headers_without_end_are_refused",
    ),
    "S10": Removal(
        "app/writing/narrative.py",
        "    return escape(text)",
        "    return text",
        "tests/test_bad_input.py::test_hostile_text_stays_text_in_a_narrative_that_is_well_formed",
    ),
    "S11": Removal(
        "app/bulk/table.py",
        '        cells = [f"\'{cell}" if cell[:1] in _FORMULA_STARTS else cell for cell in cells]',
        "        pass",
        "tests/test_bulk.py::test_no_cell_of_the_table_is_a_formula",
    ),
    "S12": Removal(
        "app/api/middleware.py",
        "request_id = given if _REQUEST_ID.fullmatch(given) else ",
        "request_id = given or ",
        "tests/test_http.py::test_a_hostile_request_id_is_replaced",
    ),
    "S14": Removal(
        "app/api/middleware.py",
        "                    answered.append(_NOT_STORED)",
        "                    pass",
        "tests/test_access.py::test_what_tells_of_a_patient_is_kept_by_no_cache_and_taken_for_nothing_else",
    ),
    "S16": Removal(
        "app/access/tokens.py",
        '            "verify_jti": False,',
        '            "verify_jti": False,\n            "verify_aud": False,',
        "tests/test_tokens.py::test_a_token_is_refused_by_what_is_wrong_with_it",
    ),
    "S19": Removal(
        "app/access/confined.py",
        "        names.check(place)",
        "        pass",
        "tests/test_tokens.py::test_a_token_of_a_patient_is_refused_with_anothers_data",
    ),
    "S22": Removal(
        "app/api/middleware.py",
        "    if hosts is None:\n        return True\n",
        "    return True\n",
        "tests/test_access.py::test_a_page_that_brings_its_own_name_to_our_address_reads_no_patient",
    ),
    "S23": Removal(
        "app/ehr/outbound.py",
        "    if address and is_link_local(address[0]):",
        "    if False:",
        "tests/test_tokens.py::test_nothing_is_asked_of_a_link_local_address",
    ),
    "S26": Removal(
        "app/evaluation.py",
        ' if not n.startswith("MAA_")}',
        "}",
        "tests/test_walls.py::test_a_process_that_evaluates_knows_no_token",
    ),
    "S28": Removal(
        "app/bulk/results.py",
        "    before = os.umask(0o077)",
        "    before = os.umask(0o022)",
        "tests/test_bulk.py::test_only_the_owner_can_read_what_is_written",
    ),
    "S30": Removal(
        "app/logs.py",
        "        with suppress(OSError):",
        "        if True:",
        "tests/attacks/test_faults.py::test_a_full_disk_under_the_log_costs_no_answer",
    ),
    # Hazards
    "H1": Removal(
        "app/reading/quantities.py",
        '    if not (code or text):\n        return None, "unit-missing",',
        '    code = code or text or "10*9/L"\n    if False:\n        return None, "unit-missing",',
        "tests/test_reading.py::test_a_missing_unit_is_never_inferred",
    ),
    "H2": Removal(
        "app/reading/observations.py",
        "        for focus in observation.focus:",
        "        for focus in ():",
        "tests/test_rulings.py::test_a_result_about_a_donor_is_set_aside",
    ),
    "H3": Removal(
        "app/reading/observations.py",
        'COUNTING = {"final", "amended", "corrected"}',
        'COUNTING = {"final", "amended", "corrected", "entered-in-error", "preliminary"}',
        "tests/test_reading.py::test_a_result_of_any_other_status_is_set_aside",
    ),
    "H5": Removal(
        "app/domain/confounding.py",
        "    Product.PLATELETS: 7,",
        "    Product.PLATELETS: 0,",
        "tests/test_rulings.py::test_platelets_soon_after_a_transfusion_in_any_words_are_no_evidence",
    ),
    "H7": Removal(
        "app/reading/quantities.py",
        "    if not (is_plausible(interval.low, row) and is_plausible(interval.high, row)):",
        "    if False:",
        "tests/test_bad_input.py::test_a_value_no_laboratory_gives_is_set_aside",
    ),
    "H11": Removal(
        "app/reading/specimens.py",
        "    if doubt is Doubt.SPOILT:",
        "    if False:",
        "tests/test_reading.py::test_a_count_of_a_spoilt_specimen_is_set_aside",
    ),
    "H14": Removal(
        "app/ehr/server.py",
        "        if matches < total:",
        "        if False:",
        "tests/test_ehr.py::test_a_total_beyond_what_was_sent_is_no_whole_answer",
    ),
    "H16": Removal(
        "app/reading/observations.py",
        "        if observation.modifierExtension or valued.modifierExtension or",
        "        if False and",
        "tests/test_reading.py::test_a_modifier_extension_or_implicit_rules_set_a_result_aside",
    ),
}


def text_without(removal: Removal, root: Path = ROOT) -> str:
    """The file without the control; ValueError where it is not there once."""
    text = (root / removal.file).read_text()
    if text.count(removal.control) != 1:
        raise ValueError(f"{removal.file} has {removal.control.strip()!r} not once")
    return text.replace(removal.control, removal.without)


def _fails(removal: Removal, copy: Path) -> bool:
    file = copy / removal.file
    kept = file.read_text()
    file.write_text(text_without(removal, copy))
    environment = {k: v for k, v in os.environ.items() if k != "CI"}
    # The copy goes before the checkout that is installed.
    environment["PYTHONPATH"] = str(copy)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", removal.tests]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    finally:
        file.write_text(kept)
    if done.returncode not in {_PASSED, _FAILED}:
        raise RuntimeError(done.stdout.decode()[-2000:])
    return done.returncode == _FAILED


def main(asked: list[str]) -> int:
    passed = 0
    with tempfile.TemporaryDirectory(prefix="maa-removed-") as temporary:
        copy = Path(temporary) / "copy"
        skipped = shutil.ignore_patterns(".venv", ".git", "build", "node_modules", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=skipped, symlinks=True)
        for name in asked or REMOVALS:
            fails = _fails(REMOVALS[name], copy)
            passed += not fails
            test = REMOVALS[name].tests.partition("::")[2]
            print(f"{name:4} {'fails' if fails else 'PASSES'} without it: {test}", flush=True)  # noqa: T201
    return int(passed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
