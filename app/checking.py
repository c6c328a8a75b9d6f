"""`maa-assess check`: whether what the settings name works, before anybody relies on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from app.access.callers import credentials_of
from app.access.keys import UnreadableError, fetch, keys_of
from app.access.sinks import SinkError, sink_of
from app.access.spool import Spool, SpoolError
from app.access.tokens import Introspection, Issuer
from app.cds_hooks.remembered import shared_store
from app.ehr.probe import Probe
from app.fhir.outcome import RequestError
from app.main import code_map_of, fhir_server_of
from app.settings import Settings, SettingsError, read_settings

# A search as ours, that finds no more than a number.
_SEARCH = "Observation?code=http://loinc.org|718-7&_summary=count"


class Finding(NamedTuple):
    """What was looked at, and what is wrong with it: nothing, or why."""

    what: str
    fault: str = ""

    def __str__(self) -> str:
        return f"FAILED {self.what}: {self.fault}" if self.fault else f"ok     {self.what}"


def check() -> list[Finding]:
    """Everything that the settings of the environment name; SettingsError where they are none."""
    return asyncio.run(_checked(read_settings()))


async def _checked(settings: Settings) -> list[Finding]:
    return [finding async for finding in _findings(settings)]


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    yield Finding(f"settings: {len(settings.model_fields_set)} are set")
    if settings.code_maps:
        yield _code_maps(settings)
    if settings.fhir_server:
        async for finding in _fhir_server(settings):
            yield finding
    for client in settings.cds_clients:
        yield await _keys(client.iss, client.jku)
    if settings.auth_issuer:
        yield await _issuer(settings)
    if settings.auth_introspection_url:
        yield await _introspection(settings)
    if settings.audit and settings.audit_spool:
        yield _spool(settings.audit_spool, settings.audit_spool_events)
        yield await _sink(settings)
    if settings.shared_store:
        yield await _store(settings)


def _code_maps(settings: Settings) -> Finding:
    try:
        code_map_of(settings)
    except SettingsError as error:
        return Finding("code maps", " ".join(error.lines))
    return Finding(f"code maps: {len(settings.code_maps)} files")


async def _fhir_server(settings: Settings) -> AsyncIterator[Finding]:
    probe = Probe(settings.fhir_server or "")
    fault = await probe.fault()
    await probe.aclose()
    yield Finding("FHIR server: metadata", fault)
    if not fault:
        yield await _search(settings)


async def _search(settings: Settings) -> Finding:
    what = "FHIR server: a search of Observation with our credentials"
    try:
        server = fhir_server_of(settings)
        assert server  # noqa: S101 the settings name one
        try:
            await server.fetch(_SEARCH)
        finally:
            await server.aclose()
    except SettingsError as error:
        return Finding(what, " ".join(error.lines))
    except RequestError as error:
        return Finding(what, error.faults[0].text)
    return Finding(what)


async def _keys(issuer: str, url: str) -> Finding:
    what = f"keys of the CDS Hooks client {issuer}"
    try:
        keys_of(await fetch(url))
    except UnreadableError as error:
        return Finding(what, str(error))
    return Finding(what)


async def _issuer(settings: Settings) -> Finding:
    what = f"keys of the issuer of access tokens, {settings.auth_issuer}"
    try:
        issuer = Issuer(settings.auth_issuer or "", settings.auth_jwks_url)
        keys_of(await fetch(await issuer.jwks_url()))
    except UnreadableError as error:
        return Finding(what, str(error))
    return Finding(what)


async def _introspection(settings: Settings) -> Finding:
    what = "introspection of access tokens"
    url = settings.auth_introspection_url or ""
    introspection = Introspection(url, credentials_of(settings), None, ())
    try:
        await introspection.caller("maa-assess-check")
    except RequestError as error:
        # That a token of our own making is not good, only somebody says whom we can ask.
        return Finding(what, error.faults[0].text if error.status != 401 else "")
    return Finding(what, "it takes any token for a good one")


def _spool(directory: Path, most_events: int) -> Finding:
    what = f"audit: the spool in {directory}"
    try:
        spool = Spool(directory, most_events)
        spool.put([])
        spool.close()
    except SpoolError as error:
        return Finding(what, str(error))
    return Finding(what)


async def _sink(settings: Settings) -> Finding:
    """A file is opened; of a server only its metadata are read, for an event would stay there."""
    target = settings.audit or ""
    if target.startswith("http"):
        probe = Probe(target.rstrip("/"))
        fault = await probe.fault()
        await probe.aclose()
        return Finding("audit: metadata of its server", fault)
    sink = sink_of(settings)
    try:
        await sink.deliver([])
    except SinkError as error:
        return Finding("audit: its file", str(error))
    return Finding("audit: its file")


async def _store(settings: Settings) -> Finding:
    what = "shared store"
    try:
        store = shared_store(settings)
        assert store  # noqa: S101 the settings name one
        try:
            await store.is_new(b"maa-assess check", time.time() + 1)
        finally:
            await store.aclose()
    except SettingsError as error:
        return Finding(what, " ".join(error.lines))
    except RequestError as error:
        return Finding(what, error.faults[0].text)
    return Finding(what)
