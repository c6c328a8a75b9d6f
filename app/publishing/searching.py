"""How definitions are searched: FHIR's parameters of each type, and what they find."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from app.fhir.json import Json
from app.fhir.outcome import Fault, RequestError

Definitions = Mapping[tuple[str, str], Json]
Query = Sequence[tuple[str, str]]
Value = tuple[str, str]
"""What is searched: a system and a code, a version and a url, or nothing and a text."""
Match = Callable[[Value], bool]
_MOST_ALTERNATIVES = 500
_STATUS_SYSTEM = "http://hl7.org/fhir/publication-status"
_STUDY_STATUS_SYSTEM = "http://hl7.org/fhir/research-study-status"
# Between alternatives stands a comma; a backslash takes a comma, bar or dollar sign literally.
_ALTERNATIVE = re.compile(r"(?:\\.|[^\\,])+|\\", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([\\,|$])")


class SearchParameter(NamedTuple):
    """One of FHIR's search parameters: its type, and what it looks at in a resource."""

    type: str
    values: Callable[[Json], Iterable[Value]]


BEYOND_R4 = ("name", "url")
"""What every type here is searched by, though R4 has it for canonical resources alone."""
_NOT_CANONICAL = frozenset({"Group", "ResearchStudy"})


def is_of_r4(kind: str, name: str) -> bool:
    """Whether R4 has the search parameter for the type."""
    return kind not in _NOT_CANONICAL or name not in BEYOND_R4


def parameters_of(kind: str) -> Mapping[str, SearchParameter]:
    """The search parameters of a type, by name: those R4 has for it, and `name` and `url`."""
    if kind in _NOT_CANONICAL:
        study = {"status": _STUDY_STATUS, "title": _CANONICAL["title"]}
        found = {name: _CANONICAL[name] for name in ("_id", "identifier", *BEYOND_R4)}
        return dict(sorted((found | (study if kind == "ResearchStudy" else {})).items()))
    if kind == "OperationDefinition":
        return {name: one for name, one in _CANONICAL.items() if name != "identifier"}
    return _CANONICAL


def known(kind: str, parameter: str) -> bool:
    """Whether a parameter, with its modifier, is one of the type's."""
    return parameter.partition(":")[0] in parameters_of(kind)


def found_by(among: Definitions, kind: str, query: Query) -> list[Json]:
    """The definitions of a type that a FHIR search finds; unknown and empty parameters find all.

    Parameters that are repeated must all hold; values between commas are alternatives. RequestError
    400 for a modifier that is not known, or too many values.
    """
    found = [one for (type_, _), one in among.items() if type_ == kind]
    left = _MOST_ALTERNATIVES
    for parameter, text in query:
        if known(kind, parameter) and text:
            alternatives = dict.fromkeys(_ALTERNATIVE.findall(text))
            left -= len(alternatives)
            if left < 0:
                words = f"Search by {_MOST_ALTERNATIVES} values at the most, in several searches."
                raise RequestError(400, Fault("too-costly", words))
            name, _, modifier = parameter.partition(":")
            matches = _matcher(parameters_of(kind)[name], name, modifier, list(alternatives))
            found = [one for one in found if matches(one)]
    return found


def _matcher(
    parameter: SearchParameter, name: str, modifier: str, alternatives: Sequence[str]
) -> Callable[[Json], bool]:
    """Whether a resource is found by one parameter of a search."""
    if modifier == "missing":
        if alternatives not in (["true"], ["false"]):
            raise RequestError(400, Fault("value", f"'{name}:missing' is 'true' or 'false'."))
        return lambda one: (not any(parameter.values(one))) == (alternatives == ["true"])
    made = _MATCHES.get((parameter.type, modifier))
    if made is None:
        modifiers = [f":{m}" for type_, m in _MATCHES if m and type_ == parameter.type]
        taken = ", ".join([*modifiers, ":missing"])
        text = f"The modifier ':{modifier[:30]}' is not supported: '{name}' takes {taken}."
        raise RequestError(400, Fault("not-supported", text))
    matches = [made(one) for one in alternatives]
    return lambda one: any(match(value) for value in parameter.values(one) for match in matches)


def _uri(asked: str) -> Match:
    """A canonical, behind which its version may stand."""
    url = _plain(asked)
    return lambda value: url in {value[1], f"{value[1]}|{value[0]}"}


def _token(asked: str) -> Match:
    """`code`, `system|code`, `|code` of no system, or `system|` for any of it."""
    bar = _BAR.search(asked)
    if not bar:
        code = _plain(asked)
        return lambda value: value[1] == code
    system, of_it = _plain(asked[: bar.start()]), _plain(asked[bar.end() :])
    return lambda value: value[0] == system and of_it in {"", value[1]}


def _beginning(asked: str) -> Match:
    folded = _folded(_plain(asked))
    return lambda value: _folded_once(value[1]).startswith(folded)


def _part(asked: str) -> Match:
    folded = _folded(_plain(asked))
    return lambda value: folded in _folded_once(value[1])


def _whole(asked: str) -> Match:
    text = _plain(asked)
    return lambda value: value[1] == text


_MATCHES: Mapping[tuple[str, str], Callable[[str], Match]] = MappingProxyType(
    {
        ("uri", ""): _uri,
        ("token", ""): _token,
        ("string", ""): _beginning,
        ("string", "contains"): _part,
        ("string", "exact"): _whole,
    }
)


def _plain(asked: str) -> str:
    return _ESCAPED.sub(r"\1", asked)


def _folded(text: str) -> str:
    """Without case and accents, as FHIR compares strings."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in split if not unicodedata.combining(one))


# What definitions say; never what a caller sent.
_folded_once = lru_cache(maxsize=2048)(_folded)


def _of(element: str, system: str = "") -> Callable[[Json], Iterator[Value]]:
    def values(resource: Json) -> Iterator[Value]:
        if element in resource:
            yield system, resource[element]

    return values


def _identifiers(resource: Json) -> Iterator[Value]:
    for one in resource.get("identifier", ()):
        yield one.get("system", ""), one.get("value", "")


def _urls(resource: Json) -> Iterator[Value]:
    if "url" in resource:
        yield resource.get("version", ""), resource["url"]


_STUDY_STATUS = SearchParameter("token", _of("status", _STUDY_STATUS_SYSTEM))
_CANONICAL: Mapping[str, SearchParameter] = MappingProxyType(
    {
        "_id": SearchParameter("token", _of("id")),
        "description": SearchParameter("string", _of("description")),
        "identifier": SearchParameter("token", _identifiers),
        "name": SearchParameter("string", _of("name")),
        "status": SearchParameter("token", _of("status", _STATUS_SYSTEM)),
        "title": SearchParameter("string", _of("title")),
        "url": SearchParameter("uri", _urls),
        "version": SearchParameter("token", _of("version")),
    }
)
