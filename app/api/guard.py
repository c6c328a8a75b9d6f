"""Before an operation: who calls, and whether he may."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.access.callers import Callers, shown
from app.access.confined import require_named, require_only
from app.access.rates import Rates, name_of
from app.access.scopes import Caller, confinement, refused
from app.api.fhir_json import request_error
from app.fhir.outcome import Fault, RequestError
from app.publishing.definitions import DEFINITION_TYPES, EMPTY_TYPES

_OPEN_TYPES = frozenset({"metadata", ".well-known", *DEFINITION_TYPES, *EMPTY_TYPES})
# Asked by POST too, of definitions alone.
_OF_DEFINITIONS = re.compile(
    rf"/fhir/({'|'.join((*DEFINITION_TYPES, *EMPTY_TYPES))})"
    r"/(_search|([^/]+/)?\$(package|data-requirements))"
)
_ASKS_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_PATIENT = re.compile(r"/fhir/Patient/([^/]+)/\$.*", re.DOTALL)
_HOOKS = "/cds-services/"
_MOST_ADDRESSES = 100


def is_open(method: str, path: str) -> bool:
    """Whether anybody may ask: definitions, discovery, health, pages; all that tells of nobody."""
    if method not in _ASKS_ONLY:
        return method == "POST" and bool(_OF_DEFINITIONS.fullmatch(path))
    _, _, below = path.partition("/fhir/")
    return not path.startswith("/fhir/") or below.partition("/")[0] in _OPEN_TYPES


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    response = await request_error(None, error)
    await response(scope, receive, send)


class Proxied:
    """Believes the proxies that are trusted who called them, and remembers that one did.

    `scope["by_proxy"]` says whether the connection came from one of them.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[str, ...]) -> None:
        self._trusted = [ipaddress.ip_network(one) for one in trusted]
        self._app = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = (scope.get("client") or ("",))[0]
        scope["by_proxy"] = self._is_trusted(peer)
        await self._app(scope, receive, send)  # type: ignore[arg-type]

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


class LoopbackOnly:
    """Answers operations on this machine alone: nobody is asked who he is.

    Where the address that was called is not known (a socket in the file system), somebody has
    decided who may open it.
    """

    def __init__(self, app: ASGIApp, hooks_ask: bool) -> None:
        self._app = app
        self._hooks_ask = hooks_ask
        self._near: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        if server is None or server[0] in self._near or self._may(scope, server[0]):
            await self._app(scope, receive, send)
            return
        text = (
            "Nobody is asked here who he is, so that only this machine is answered. Set "
            "MAA_AUTH_ISSUER (docs/operations.md has the ways), listen on 127.0.0.1 behind a "
            "gateway that asks for a login, or set MAA_INSECURE=true."
        )
        await _refuse(RequestError(403, Fault("forbidden", text)), scope, receive, send)

    def _may(self, scope: Scope, server: str) -> bool:
        try:
            address = ipaddress.ip_address(server.partition("%")[0])
        except ValueError:
            # No address of a network: a name in a test, or the path of a socket.
            near = True
        else:
            address = getattr(address, "ipv4_mapped", None) or address
            near = address.is_loopback
        if near and len(self._near) < _MOST_ADDRESSES:
            self._near.add(server)
        if near or scope["type"] != "http":
            return True
        path = _path(scope)
        return is_open(scope["method"], path) or (self._hooks_ask and path.startswith(_HOOKS))


class Guard:
    """Asks who calls an operation, what he may ask, and how often.

    Leaves in the scope `caller`, as the log may name him, `asked_by`, as he is, `check_body`, which
    holds what he sends to the one patient he may ask about, and `turn_of`, which of all callers he
    is. Hooks that ask for tokens of their own are left to do so.
    """

    def __init__(
        self, app: ASGIApp, callers: Callers | None, rates: Rates | None, hooks_ask: bool
    ) -> None:
        """Without `callers` nobody is asked who he is, and each address is a caller."""
        self._app = app
        self._callers = callers
        self._rates = rates
        self._hooks_ask = hooks_ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["method"], path := _path(scope)):
            try:
                await self._admit(scope, path)
            except RequestError as error:
                await _refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, path: str) -> None:
        """RequestError 401, 403, 429 or 503 unless the caller may ask."""
        caller = None
        address = name_of((scope.get("client") or ("",))[0])
        try:
            if self._callers and not (self._hooks_ask and path.startswith(_HOOKS)):
                caller = await self._callers.caller(scope["headers"], scope.get("by_proxy", False))
        except RequestError:
            # Whoever tries tokens tries no more of them than he may ask.
            if self._rates:
                await self._rates.take(address)
            raise
        scope["turn_of"] = f"{caller.client}\n{caller.user}" if caller else address
        if self._rates:
            await self._rates.take(scope["turn_of"])
        if caller:
            self._confine(scope, path, caller)

    def _confine(self, scope: Scope, path: str, caller: Caller) -> None:
        """RequestError 403 unless the caller's scopes do."""
        scope["caller"], scope["asked_by"] = shown(caller), caller
        of_patient = _OF_PATIENT.fullmatch(path)
        patient = confinement(caller, of_patient[1] if of_patient else None)
        if patient is not None:
            if path.startswith(_HOOKS):
                raise refused("Hooks are called with a token of 'system/' or 'user/' scopes.")
            query = scope["query_string"].decode("latin-1")
            require_named(patient, parse_qsl(query, keep_blank_values=True))
            scope["check_body"] = partial(require_only, patient)
