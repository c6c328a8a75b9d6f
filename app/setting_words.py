"""The words of settings: lists, hosts and origins; what a value looks like, and what is taken."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import httpx
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class SettingsError(ValueError):
    """Settings that cannot be used; each line names one, its shape and the remedy."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def listed(value: Any) -> Any:
    """A list from the environment: JSON, or words between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [word.strip() for word in value.split(",") if word.strip()]


def listed_origins(value: Any) -> Any:
    """As `listed`; ValueError for what no browser sends as an origin."""
    words = listed(value)
    if not all(word == "*" or re.fullmatch(r"https?://[^/?#@*]+", word) for word in words or ()):
        raise ValueError("An origin is scheme, host and port.")
    return words


def listed_hosts(value: Any) -> Any:
    """As `listed`; ValueError for what is no name of a host."""
    words = listed(value)
    if not all(word == "*" or re.fullmatch(r"(\*\.)?[\w.\-]+", word) for word in words or ()):
        raise ValueError("A host is a name without scheme and port.")
    return words


def is_safe(address: str, open_to_http: bool = False) -> bool:
    """Whether an address may be asked: https, or http on loopback; no user, query or fragment."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    plain = not (url.userinfo or url.query or url.fragment)
    schemes = {"https", *(["http"] if open_to_http or url.host in LOOPBACK else [])}
    return bool(url.host) and plain and url.scheme in schemes


def shape(text: str) -> str:
    """What a value looks like, and nothing of what it is."""
    if re.fullmatch(r"-?[0-9]+", text):
        return f"a whole number of {len(text.lstrip('-'))} digits" + " below 0" * (text[0] == "-")
    length = f"{len(text)} characters"
    if text[:1] == text[-1:] in {"'", '"'}:
        return f"text of {length} with its quotation marks"
    if scheme := re.match(r"([a-z]{1,16})://", text):
        return f"a URL of {length} with {scheme[1]}"
    return f"JSON of {length}" if text[:1] in {"[", "{"} else f"text of {length}"


def taken(field: FieldInfo) -> str:
    """What a setting takes, in words, with an example."""
    example = (field.examples or [str(field.default).lower()])[0]
    return f"{field.title or _kind(field)}, such as {example}"


def _kind(field: FieldInfo) -> str:
    least = next((mark.ge for mark in field.metadata if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in field.metadata if isinstance(mark, Le)), None)
    if field.annotation is int:
        return f"a whole number of at least {least}" + (f" and at most {most}" if most else "")
    if field.annotation is bool:
        return "true or false"
    if words := [one for one in get_args(field.annotation) or () if isinstance(one, str)]:
        return f"one of {', '.join(words)}"
    return "a number above 0" if field.annotation is float else "text"
