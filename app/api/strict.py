"""`Prefer: handling=strict`: the whole input checked against FHIR R4, every fault with its path."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from app.body import fhir_version
from app.domain.effort import spend
from app.fhir.outcome import Fault, RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

# FHIR's required bindings that fhir.resources leaves open or cuts short.
_OBSERVATION = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_REPORT = (
    "registered partial preliminary final amended corrected appended cancelled entered-in-error "
    "unknown"
)
_BINDINGS = {
    ("Observation", "status"): _OBSERVATION.split(),
    ("DiagnosticReport", "status"): _REPORT.split(),
    ("Quantity", "comparator"): ["<", "<=", ">=", ">"],
}
_MOST_FAULTS = 200
# Longer integers are no integer of FHIR's, and Python makes none of 4,300 digits.
_DIGITS = 20
# To read and check one, wherever it stands.
_STEPS_OF_AN_OBJECT = 15


def asks_strict(request: Request) -> bool:
    """Whether the caller prefers a whole check to a lenient reading."""
    return any(
        re.search(r"(?:^|[,;])\s*handling\s*=\s*\"?strict\b", preference.lower())
        for preference in request.headers.getlist("prefer")
    )


def require_checkable(request: Request) -> None:
    """RequestError 415 where the body says that it is of a version that is not checked."""
    if fhir_version(request.headers.get("content-type", "").lower().split(";")[1:])[0] == "5":
        text = (
            "Prefer: handling=strict checks against FHIR R4; R5 is read, and not checked: send R4, "
            "or leave the preference out."
        )
        raise RequestError(415, Fault("not-supported", text))


class _Object(dict[str, Any]):
    """A JSON object that remembers the keys it was given twice."""

    repeated: tuple[str, ...] = ()


def check_strictly(body: bytes) -> None:
    """RequestError 422 with every fault of the input; what is no JSON object is left to the reader.

    Keys given twice, and each resource (nested ones too) against the R4B models of
    fhir.resources and the required code bindings those leave open.
    """
    tree = _tree(body)
    if not isinstance(tree, _Object):
        return
    name = tree.get("resourceType")
    root = name if isinstance(name, str) and _is_text(name) else "Resource"
    try:
        if b"\\ud" in body.lower() and (faults := tuple(_surrogates(tree, root))):
            raise RequestError(422, *faults[:_MOST_FAULTS])
        _check(tree, root)
    except RecursionError:
        raise _too_deep() from None


def _check(tree: _Object, root: str) -> None:
    found: dict[str | None, Fault] = {}
    for fault in (*_repeated(tree, root), *_resource_faults(tree, root)):
        found.setdefault(fault.place, fault)
    if found:
        faults = list(found.values())
        if len(faults) > _MOST_FAULTS:
            more = f"{len(faults) - _MOST_FAULTS} more faults are not listed."
            faults = [*faults[:_MOST_FAULTS], Fault("processing", more)]
        raise RequestError(422, *faults)


def _tree(body: bytes) -> Any:
    """The JSON as objects; RequestError 400 where a strict reader cannot make any of it."""
    try:
        return json.loads(body, object_pairs_hook=_object, parse_float=_number, parse_int=_number)
    except UnicodeDecodeError as error:
        text = f"Not JSON: it is not UTF-8 (byte {error.start})."
    except json.JSONDecodeError as error:
        text = f"Not JSON: {error.msg} (byte {error.pos})."
    except RecursionError:
        raise _too_deep() from None
    raise RequestError(400, Fault("structure", text))


def _number(text: str) -> int | Decimal:
    """A number, however long; what no decimal can be is told as a fault of its element."""
    if len(text) <= _DIGITS and text.lstrip("-").isdecimal():
        return int(text)
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal("NaN")


def _too_deep() -> RequestError:
    return RequestError(400, Fault("structure", "The JSON is nested too deep to be checked."))


def _surrogates(value: Any, place: str) -> Iterator[Fault]:
    """Half characters, which are no text: nothing could be said about what they stand in."""
    if isinstance(value, str):
        if not _is_text(value):
            yield Fault("value", "Half of a surrogate pair is no character.", place)
    elif isinstance(value, dict):
        for name, part in value.items():
            if not _is_text(name):
                yield Fault("structure", "The name of an element has half a character.", place)
            else:
                yield from _surrogates(part, f"{place}.{name}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _surrogates(part, f"{place}[{index}]")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    spend(_STEPS_OF_AN_OBJECT)
    found = _Object(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        found.repeated = tuple(name for name, given in times.items() if given > 1)
    return found


def _repeated(value: Any, place: str) -> Iterator[Fault]:
    if isinstance(value, _Object):
        for name in value.repeated:
            yield Fault("structure", "The key is given twice: keep one.", f"{place}.{name[:60]}")
        for name, part in value.items():
            yield from _repeated(part, f"{place}.{name}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _repeated(part, f"{place}[{index}]")


def _resource_faults(resource: _Object, place: str) -> Iterator[Fault]:
    """The faults of a resource, then those of the resources in it, each against its own model."""
    from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415 slow to import

    inner: list[tuple[_Object, str]] = []
    own = _without_resources(resource, place, inner)
    name = own.get("resourceType")
    try:
        model = get_fhir_model_class(str(name))
    except ValueError:
        model = None
    if model is None or not issubclass(model, get_fhir_model_class("Resource")):
        text = f"'{str(name)[:60]}' is not a resource of FHIR R4."
        yield Fault("structure", text, f"{place}.resourceType")
    else:
        yield from _element_faults(own, model, place)
        try:
            model.model_validate(own)
        except ValidationError as error:
            yield from (_fault(one, place) for one in error.errors(include_url=False))
    for nested, where in inner:
        yield from _resource_faults(nested, where)


def _without_resources(value: Any, place: str, inner: list[tuple[_Object, str]]) -> Any:
    """A copy without the resources in it, which are put into `inner` with their places."""
    if isinstance(value, list):
        parts = [_without_resources(p, f"{place}[{i}]", inner) for i, p in enumerate(value)]
        return [part for part in parts if part is not None] if parts != [None] * len(parts) else []
    if not isinstance(value, _Object):
        return value
    kept: dict[str, Any] = {}
    for name, part in value.items():
        where = f"{place}.{name}"
        if name == "resource" and isinstance(part, _Object):
            inner.append((part, where))
        elif name == "contained" and isinstance(part, list):
            inner += (
                (one, f"{where}[{i}]") for i, one in enumerate(part) if isinstance(one, _Object)
            )
        else:
            kept[name] = _without_resources(part, where, inner)
    return kept


def _element_faults(element: Any, model: Any, place: str) -> Iterator[Fault]:
    """What the models tell last or not at all: missing elements, two of a choice, wrong codes."""
    if not isinstance(element, dict):
        return
    choices: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        extra = field.json_schema_extra or {}
        where = f"{place}.{key}"
        if extra.get("element_required") and key not in element and f"_{key}" not in element:
            yield Fault("required", f"'{key}' is required.", where)
        if key not in element:
            continue
        if extra.get("one_of_many"):
            choices.setdefault(extra["one_of_many"], []).append(key)
        allowed = _BINDINGS.get((model.get_resource_type(), name), extra.get("enum_values"))
        yield from _wrong_code(element[key], allowed or (), where)
        yield from _faults_within(element[key], _model_of(field.annotation), where)
    for choice, given in choices.items():
        if len(given) > 1:
            text = f"Only one of {', '.join(given)} may be given."
            yield Fault("structure", text, f"{place}.{choice}")


def _wrong_code(value: Any, allowed: Collection[str], place: str) -> Iterator[Fault]:
    """A code outside a required binding; a list that ends in a plus is not the whole of it."""
    if allowed and "+" not in allowed and isinstance(value, str) and value not in allowed:
        yield Fault("code-invalid", f"'{value[:60]}' is not one of {', '.join(allowed)}.", place)


def _faults_within(value: Any, model: Any, place: str) -> Iterator[Fault]:
    if model is None:
        return
    if not isinstance(value, list):
        yield from _element_faults(value, model, place)
        return
    for index, part in enumerate(value):
        yield from _element_faults(part, model, f"{place}[{index}]")


@cache
def _model_of(annotation: Any) -> Any:
    """The model of an element's type; None for a primitive."""
    from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415 slow to import

    if hasattr(annotation, "get_model_klass"):
        return get_fhir_model_class(annotation.__name__.removesuffix("Type"))
    return next(filter(None, map(_model_of, get_args(annotation))), None)


def _fault(error: Any, place: str) -> Fault:
    """A fault of the model; its text names the rule, never the value, which may be a patient's."""
    for part in error["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{str(part).lstrip('_')}"
    kind = {"missing": "required", "extra_forbidden": "structure"}.get(error["type"], "value")
    text = {
        "missing": "This element is required.",
        "extra_forbidden": "FHIR R4 has no such element here.",
    }.get(
        error["type"], f"Not valid in FHIR R4: {error['msg'].removeprefix('Value error, ')}"[:300]
    )
    return Fault(kind, text, place)
