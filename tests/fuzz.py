"""Fuzzing: what is read from others is given to what reads it, spoiled in every way.

`python -m tests.fuzz --minutes 60 [TARGET ...]` fuzzes each target for its share of the time, in
one process after the other; coverage of our code guides what is tried next (atheris). With
`--runs N` each target is tried so often, from the same seed: the suite's short run. An input that
brings more than a refusal is written to build/fuzz, and is tried by `--again FILE TARGET`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / "build" / "fuzz"
_SEED = "20031115"
_LONGEST = 300
_ACTIVE = ("script", "img", "iframe", "object", "a", "form", "style", "link")
# What is put in place of anything: ends of what is read, of what is not, and other kinds.
SPOILED: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**40, 1e308, -0.0, "", " ", "\x00", "\ud800", "\u202e", "é" * 70,
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "../../etc/passwd", "urn:uuid:", "#", "#p",
    "Patient/p", "https://elsewhere.example/fhir/Patient/p", "Observation/nina-anc", "2024",
    "2024-02", "2024-02-30", "0001-01-01", "9999-12-31", "2024-03-05T23:59:60Z",
    "2024-03-05T08:30:00+14:00",
    "751-8", "718-7", "770-8", "http://loinc.org", "http://unitsofmeasure.org", "10*9/L", "K/uL",
    "10*3/uL", "g/dL", "%", "mmol/L", "cells/mm3", "<0.5", "1.234,5", "1,234", "0.5-0.9", "neg",
    "12 x 10^9/L", "final", "entered-in-error", "amended", "not-done", "Bundle", "Parameters",
    "Observation", "Procedure", "MedicationAdministration", [], {}, [[]], [{}], [None], {"": ""},
)  # fmt: skip

# In place of a moment in a token.
NO_MOMENTS: tuple[Any, ...] = (
    float("inf"), float("-inf"), float("nan"), 10**400, -(10**400), 1e308, 10**12, True,
    "4000000000",
)  # fmt: skip


class _Bytes:
    """Choices out of bytes; zeros once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, many: int) -> int:
        """A number from 0 to below `many`."""
        taken = self._data[self._at : self._at + 2]
        self._at += 2
        return int.from_bytes(taken, "big") % many if many else 0

    def rest(self) -> bytes:
        return self._data[self._at :]

    @property
    def left(self) -> bool:
        return self._at < len(self._data)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its name or number there."""
    names = value.keys() if isinstance(value, dict) else range(len(value))
    for name in list(names):
        yield value, name
        if isinstance(value[name], dict | list):
            yield from _places(value[name])


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _spoiled(document: Any, choices: _Bytes) -> Any:
    """The document with a few places replaced, taken away, given twice, or exchanged."""
    document = _copy(document)
    for _ in range(12):
        places = list(_places(document))
        if not choices.left or not places:
            break
        holder, name = places[choices.below(len(places))]
        match choices.below(6):
            case 0 | 1:
                holder[name] = _copy(SPOILED[choices.below(len(SPOILED))])
            case 2:
                del holder[name]
            case 3:
                other, its_name = places[choices.below(len(places))]
                holder[name] = _copy(other[its_name])
            case 4 if isinstance(holder, list):
                holder.insert(name, _copy(holder[name]))
            case 5 if isinstance(holder[name], str):
                holder[name] = holder[name][: choices.below(20)] + str(choices.below(2000))
            case _:
                holder[name] = [holder[name]]
    return document


def _stories(file: str) -> list[Any]:
    found = sorted((ROOT / "fixtures").glob(f"*/{file}"))
    return [json.loads(one.read_bytes()) for one in found if one.stat().st_size < 20_000]


def _of_documents(call: Callable[[bytes], Any], file: str) -> Callable[[bytes], None]:
    """Calls with a story's document, spoiled; what is answered is JSON, the same once more."""
    stories = _stories(file)

    def once(data: bytes) -> None:
        choices = _Bytes(data)
        body = json.dumps(_spoiled(stories[choices.below(len(stories))], choices)).encode()
        told = _told(call, body)
        assert told == _told(call, body)
        for holder, name in _places(json.loads(told)):
            if name == "div":
                names = {element.tag for element in ElementTree.fromstring(holder[name]).iter()}
                assert not names & {f"{{http://www.w3.org/1999/xhtml}}{one}" for one in _ACTIVE}

    return once


def _told(call: Callable[[bytes], Any], body: bytes) -> bytes:
    from app.fhir.json import encode
    from app.fhir.outcome import RequestError

    try:
        answer = call(body)
    except RequestError as error:
        assert 400 <= error.status < 500  # noqa: PT017
        answer = error.outcome()
    told = encode(answer)
    json.loads(told)
    return bytes(told)


def _text(choices: _Bytes, models: Sequence[str]) -> str:
    """Any text, or a model with something put in, in place of some of it."""
    model = (*models, "")[choices.below(len(models) + 1)]
    start = choices.below(len(model) + 1)
    end = start + choices.below(4)
    half = "\ud800" * (choices.below(50) == 49)
    return model[:start] + half + choices.rest().decode("utf-8", "replace") + model[end:]


def _texts(call: Callable[[str], Any], *models: str) -> Callable[[bytes], None]:
    return lambda data: call(_text(_Bytes(data), models))


def _eligibility() -> Callable[[bytes], None]:
    from app import operations

    return _of_documents(operations.eligibility, "request.json")


def _response() -> Callable[[bytes], None]:
    from app import operations

    return _of_documents(operations.response, "request.json")


def _json() -> Callable[[bytes], None]:
    """Bytes that may be no JSON at all."""
    from app import operations

    def once(data: bytes) -> None:
        _told(operations.eligibility, data)
        _told(operations.evaluate_measure, data)

    return once


def _strict() -> Callable[[bytes], None]:
    from app.api.strict import check_strictly

    return _of_documents(lambda body: check_strictly(body) or {}, "request.json")  # type: ignore[func-returns-value]


def _units() -> Callable[[bytes], None]:
    from app.fhir.units import readings, tidy

    models = ("10*3/uL", "x10E3/mcL", "thousand per microliter", "{cells}/mm3", "g/dl", "%", "K/µL")
    return _texts(lambda text: (readings(text), readings(tidy(text))), *models)


def _values() -> Callable[[bytes], None]:
    """A result as text, in a value, a unit or a range of normal."""
    from app import operations
    from tests import shapes

    def once(data: bytes) -> None:
        choices = _Bytes(data)
        kind = choices.below(3)
        text = _text(choices, ("< 0.5 x 10^9/L", "1.234,5 /µl", "12-20 K/uL (L)", "150 - 400"))
        text = text.replace("\ud800", "")
        result = shapes.result(shapes.PLATELETS, 20)
        if kind == 0:
            del result["valueQuantity"]
            result["valueString"] = text
        elif kind == 1:
            result["valueQuantity"] = {"value": 20, "unit": text}
        else:
            result["referenceRange"] = [{"text": text}]
        assert b"resourceType" in _told(operations.eligibility, shapes.bundle(result))

    return once


def _dates() -> Callable[[bytes], None]:
    from app.fhir.times import days_of, when

    def call(text: str) -> None:
        found = when(text)
        assert found is None or found.first <= found.last
        days_of(text)

    moments = ("2024", "2024-02-29", "2024-03-05T23:59:60.5Z", "0001-01-01T00:00:00+14:00", "8 wk")
    return _texts(call, *moments)


def _prefetch() -> Callable[[bytes], None]:
    from app.cds_hooks import answers, calls, prefetch
    from app.cds_hooks.discovery import SERVICES
    from app.settings import Settings

    settings = Settings()

    def cards(service: Any, body: bytes) -> Any:
        call = calls.read_call(body, "patient-view")
        sent = prefetch.sent_along(call, service)
        gathered = asyncio.run(prefetch.gather(call, service, sent, (), _no_server))
        at = "http://localhost"
        return answers.answer(service, call, gathered, settings, at, date(2024, 3, 6))

    eligibility, response = (
        _of_documents(lambda body, s=service: cards(s, body), "patient-view.json")  # type: ignore[misc]
        for service in SERVICES.values()
    )

    def once(data: bytes) -> None:
        (eligibility if data[:1] < b"\x80" else response)(data[1:])

    return once


def _no_server(*_: Any) -> Any:
    raise AssertionError("No server is named, and one was opened.")


class _Keys:
    """A key set of one key, for ES384."""

    why = ""

    def __init__(self, key: Any) -> None:
        from jwt.algorithms import ECAlgorithm

        self._key = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "k"}

    async def found(self, kid: str | None) -> Sequence[Any]:
        return [self._key] if kid == "k" else []


def _token(parts: Sequence[Any], key: Any, choices: _Bytes) -> str | None:
    """Any text, or a token well signed of spoiled claims and header; None where none can be."""
    import jwt

    if choices.below(4) == 0:
        return choices.rest().decode("latin-1")
    spoiled = _spoiled(parts, choices)
    claims, header = (*spoiled, {}, {})[:2] if isinstance(spoiled, list) else ({}, {})
    try:
        return jwt.encode(claims, key, "ES384", headers=header)
    except Exception:  # noqa: BLE001 no token can be made of it
        return None


def _tokens() -> Callable[[bytes], None]:
    """Tokens with a good signature and spoiled claims, or no tokens at all: none is taken."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

    from app.cds_hooks.trust import ClientTrust
    from app.fhir.outcome import RequestError
    from app.settings import CdsClient

    key = ec.generate_private_key(ec.SECP384R1())
    address = "https://maa.example.org/cds-services/maa-eligibility"
    client = CdsClient(iss="https://ehr.example.org", jku="https://ehr.example.org/jwks")
    trust = ClientTrust((client,), clock=lambda: 1000.0)

    trust._keys = {client.jku: _Keys(key)}  # type: ignore[dict-item]
    good = {"iss": client.iss, "aud": address, "exp": 1200, "iat": 1000, "jti": "1"}
    parts = [good, {"alg": "ES384", "kid": "k", "typ": "JWT", "jku": client.jku}]

    def once(data: bytes) -> None:
        token = _token(parts, key, _Bytes(data))
        if token is None:
            return
        try:
            asyncio.run(trust.check(f"Bearer {token}", address))
        except RequestError as error:
            assert error.status in {401, 403}  # noqa: PT017
            json.dumps(error.outcome()).encode()
        else:
            taken = jwt.decode(token, options={"verify_signature": False})
            assert {n: taken[n] for n in ("iss", "aud")} == {
                n: good[n] for n in ("iss", "aud")
            } or (address in taken["aud"])
            assert 970 <= taken["exp"] <= 4630

    return once


def _access_tokens() -> Callable[[bytes], None]:
    """Access tokens, signed or looked up: who is let in has a token for us that ends."""
    import jwt
    import msgspec
    from cryptography.hazmat.primitives.asymmetric import ec

    from app.access.tokens import Introspection, Issuer, Tokens
    from app.fhir.outcome import RequestError

    name, ours = "https://auth.example.org", "https://maa.example.org/fhir"
    good = {"iss": name, "aud": ours, "exp": 4 * 10**9, "nbf": 10**9, "iat": 10**9}
    good |= {"client_id": "c", "sub": "u", "scope": "patient/*.rs", "patient": "1"}
    times = ("exp", "nbf", "iat")
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = Issuer(name, f"{name}/jwks")
    issuer.keys = _Keys(key)  # type: ignore[assignment]
    signed = Tokens(issuer, (ours,))

    class _LookedUp(Introspection):
        async def _claims(self, token: str) -> dict[str, Any]:
            told: dict[str, Any] = msgspec.json.decode(token, type=dict[str, Any])
            return told

    def let_in(way: Tokens | Introspection, token: str, claims: Callable[[], Any]) -> None:
        try:
            caller = asyncio.run(way.caller(token))
        except RequestError as error:
            assert error.status == 401  # noqa: PT017
            json.dumps(error.outcome()).encode()
            return
        assert caller.client or caller.user
        taken = claims()
        assert taken.get("iss", name) == name
        assert ours in (taken["aud"] if isinstance(taken["aud"], list) else [taken["aud"]])
        assert way is not signed or taken["exp"] > 10**9
        assert (taken.get("exp") or 0) < 10**12

    def once(data: bytes) -> None:
        choices = _Bytes(data)
        looked_up, at = choices.below(2), choices.below(3 * len(NO_MOMENTS) + 1)
        claims = good | {"active": True}
        if at < 3 * len(NO_MOMENTS):
            claims[times[at % 3]] = NO_MOMENTS[at // 3]
        if looked_up:
            told = json.dumps(_spoiled(claims, choices))
            try:
                msgspec.json.decode(told, type=dict[str, Any])
            except msgspec.DecodeError:
                return
            let_in(_LookedUp("", None, name, (ours,)), told, lambda: json.loads(told))
        elif token := _token([claims, {"alg": "ES384", "kid": "k"}], key, choices):
            let_in(signed, token, lambda: jwt.decode(token, options={"verify_signature": False}))

    return once


def _code_maps() -> Callable[[bytes], None]:
    """CSV files: bytes, or one of the examples with lines spoiled."""
    from app.fhir.map_files import read_code_maps
    from app.fhir.maps import CodeMapError

    examples = [one.read_bytes() for one in sorted((ROOT / "examples/code-maps").glob("*.csv"))]
    file = Path(tempfile.mkdtemp(prefix="maa-fuzz-")) / "codes.csv"

    def once(data: bytes) -> None:
        choices = _Bytes(data)
        number = choices.below(len(examples) + 1)
        if number < len(examples):
            lines = examples[number].splitlines(keepends=True)[:6]
            at = choices.below(len(lines))
            cut = choices.below(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + choices.rest() + lines[at][cut:]
            file.write_bytes(b"".join(lines))
        else:
            file.write_bytes(choices.rest())
        try:
            read_code_maps([file])
        except CodeMapError as error:
            assert "\n" not in str(error)  # noqa: PT017

    return once


def _concept_maps() -> Callable[[bytes], None]:
    """The maps that come with a request."""
    from app import operations

    story = json.loads((ROOT / "fixtures/hospital-codes/request.json").read_bytes())
    (map_,) = [one["resource"] for one in story["parameter"] if one["name"] == "codeMap"]

    def once(data: bytes) -> None:
        sent = _spoiled([map_], _Bytes(data))
        given = [one for one in story["parameter"] if one["name"] != "codeMap"]
        given += [{"name": "codeMap", "resource": one} for one in sent if isinstance(one, dict)]
        body = json.dumps({"resourceType": "Parameters", "parameter": given}).encode()
        _told(operations.eligibility, body)

    return once


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "eligibility": _eligibility,
    "response": _response,
    "json": _json,
    "strict": _strict,
    "units": _units,
    "values": _values,
    "dates": _dates,
    "prefetch": _prefetch,
    "tokens": _tokens,
    "access-tokens": _access_tokens,
    "code-maps": _code_maps,
    "concept-maps": _concept_maps,
}


def _fuzz(target: str, options: Sequence[str]) -> None:
    """Does not return: the library ends the process."""
    import atheris

    with atheris.instrument_imports(include=["app"], enable_loader_override=False):
        once = TARGETS[target]()
    FOUND.mkdir(parents=True, exist_ok=True)
    # Inputs are long from the start: the first bytes choose what the later ones spoil.
    given = [f"-max_len={_LONGEST}", "-len_control=0", f"-artifact_prefix={FOUND}/{target}-"]
    atheris.Setup([sys.argv[0], *given, "-timeout=30", *options], once)
    atheris.Fuzz()


def _each(targets: Sequence[str], options: Sequence[str]) -> int:
    """Fuzzes the targets one after the other; the number of those in which something was found."""
    failed = 0
    for target in targets:
        command = [sys.executable, "-m", "tests.fuzz", "--one", target, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        told = re.findall(r"^#\d+.*cov:.*", done.stderr, re.MULTILINE) or ["no run was made"]
        print(f"{target:13} {'FOUND' if done.returncode else 'ok':6} {told[-1]}", flush=True)  # noqa: T201
        if done.returncode:
            failed += 1
            print(done.stdout[-3000:], done.stderr[-300:], file=sys.stderr)  # noqa: T201
    return failed


def main() -> int:
    told = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    told.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    told.add_argument("--minutes", type=float, default=0)
    told.add_argument("--runs", type=int, default=1000)
    told.add_argument("--again", type=Path, help="try this one input")
    told.add_argument("--one", help=argparse.SUPPRESS)
    given, options = told.parse_known_args()
    if given.one:
        _fuzz(given.one, options)
    targets = given.targets or list(TARGETS)
    if given.again:
        TARGETS[targets[0]]()(given.again.read_bytes())
        return 0
    if given.minutes:
        seconds = round(given.minutes * 60 / len(targets))
        return _each(targets, [f"-max_total_time={seconds}"])
    return _each(targets, [f"-runs={given.runs}", f"-seed={_SEED}"])


if __name__ == "__main__":
    sys.exit(main())
