"""Who calls: by his token, or by the certificate that a proxy has checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from app.access.scopes import Caller
from app.access.tokens import Introspection, Issuer, Tokens, header_of, token_in, unavailable
from app.fhir.outcome import Fault, RequestError
from app.settings import Settings

# A client that a certificate names is one of the hospital's own machines.
_CERTIFIED = "system/*.rs"
_LONGEST_NAME = 512
_LEGIBLE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,127}", re.ASCII)


class Callers:
    """Asks whoever calls to prove who he is, in one of the ways that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self.issuer: Issuer | None = None
        self._tokens: Tokens | None = None
        self._introspection: Introspection | None = None
        if settings.auth_issuer:
            self.issuer = Issuer(settings.auth_issuer, settings.auth_jwks_url)
            self._tokens = Tokens(self.issuer, settings.audience)
        if settings.auth_introspection_url:
            self._introspection = Introspection(
                settings.auth_introspection_url,
                credentials_of(settings),
                settings.auth_issuer,
                settings.auth_audience,
            )
        self._certificate_header = (settings.auth_certificate_header or "").lower().encode()

    async def caller(self, headers: Iterable[tuple[bytes, bytes]], by_proxy: bool) -> Caller:
        """Who calls; `by_proxy`: a proxy that is trusted has sent the headers.

        RequestError 401 where he does not prove it, 503 where that cannot be told now.
        """
        given: dict[bytes, list[str]] = {}
        for name, value in headers:
            if name in {b"authorization", self._certificate_header}:
                given.setdefault(name, []).append(value.decode("latin-1"))
        if any(len(values) > 1 for values in given.values()):
            raise _unknown("Say once who you are: a header that says it stands twice.")
        certified = given.get(self._certificate_header, [""])[0] if by_proxy else ""
        authorization = given.get(b"authorization", [""])[0]
        if certified and not authorization:
            return _certified(certified)
        if not (self._tokens or self._introspection):
            raise _unknown("Call by the proxy that asks for your certificate.")
        return await self._bearer(token_in(authorization))

    async def _bearer(self, token: str) -> Caller:
        if self._tokens and (header_of(token) is not None or not self._introspection):
            return await self._tokens.caller(token)
        if self._introspection is None:
            raise unavailable("No way to look at tokens is set.")
        return await self._introspection.caller(token)


def credentials_of(settings: Settings) -> tuple[str, str] | None:
    """Who we are to the introspection."""
    secret = settings.auth_client_secret
    if settings.auth_client_id and secret:
        return settings.auth_client_id, secret.get_secret_value()
    return None


def shown(caller: Caller) -> str:
    """The caller as the log names him: a program by its name, a person by a digest of his."""
    if _LEGIBLE.fullmatch(caller.client):
        return caller.client
    name = hashlib.sha256((caller.client or caller.user).encode()).hexdigest()
    return f"{'client' if caller.client else 'user'}:{name[:16]}"


def _certified(name: str) -> Caller:
    if len(name) > _LONGEST_NAME:
        raise _unknown("The name in the certificate is longer than one may be.")
    return Caller(client=name, scopes=_CERTIFIED)


def _unknown(text: str) -> RequestError:
    return RequestError(401, Fault("login", text), challenge="Bearer")
