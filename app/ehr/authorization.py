"""How a FHIR server knows us: not at all, by a bearer token, or by SMART Backend Services.

https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.fhir.outcome import Fault, RequestError

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 240
_RENEW_BEFORE_SECONDS = 30
_ALGORITHMS = {"RSA": "RS384", "EC": "ES384"}


Form = Callable[[], list[tuple[str, str]]]
"""Makes a form's fields anew for each attempt: an assertion is sent once."""


class Exchange(Protocol):
    """One HTTP exchange with the server; a form makes it a POST."""

    async def __call__(self, url: str, form: Form | None = None) -> bytes: ...


class Authorization(Protocol):
    """What goes into the Authorization header."""

    async def token(self, exchange: Exchange) -> str | None:
        """The bearer token, or None to send none."""

    def refused(self, token: str | None) -> bool:
        """The server refused that token; whether another can be had."""


@dataclass(frozen=True)
class Bearer:
    """A token given once; None sends no Authorization header."""

    value: str | None = None

    async def token(self, exchange: Exchange) -> str | None:  # noqa: ARG002
        return self.value

    def refused(self, token: str | None) -> bool:  # noqa: ARG002
        return False


class PrivateKey:
    """A client's private key, from a PEM or JWK file: RSA signs RS384, EC P-384 signs ES384."""

    def __init__(self, file: Path, key_id: str | None = None) -> None:
        """Reads the file; ValueError says what is wrong with the key, never the key."""
        text = file.read_bytes()
        if text.lstrip().startswith(b"{"):
            try:
                jwk = json.loads(text)
                key_id = key_id or jwk.get("kid")
                key: Any = jwt.PyJWK(jwk, algorithm=_ALGORITHMS.get(jwk.get("kty"))).key
            except (jwt.PyJWTError, ValueError, TypeError):
                raise ValueError("The private key is not a JWK that can be read.") from None
        else:
            try:
                key = load_pem_private_key(text, password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                why = "The private key is not a PEM file that can be read without a password."
                raise ValueError(why) from None
        if isinstance(key, RSAPrivateKey) and key.key_size >= 2048:
            self.algorithm = "RS384"
        elif isinstance(key, EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
            self.algorithm = "ES384"
        else:
            raise ValueError("The private key is neither RSA of 2048 bits or more nor EC P-384.")
        self._key = key
        self._headers = {"kid": key_id} if key_id else None

    def sign(self, claims: dict[str, Any]) -> str:
        """The claims as a signed JWT."""
        return jwt.encode(claims, self._key, self.algorithm, headers=self._headers)


class _Configuration(msgspec.Struct):
    token_endpoint: str


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = 300


T = TypeVar("T", _Configuration, _Token)


@dataclass
class BackendServices:
    """SMART Backend Services: `private_key_jwt`, the token kept until shortly before it ends."""

    client_id: str
    key: PrivateKey
    scope: str
    server: str
    token_url: str | None = None
    """Where tokens are had; None asks the server's `.well-known/smart-configuration`."""
    _token: str | None = None
    _good_until: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self, exchange: Exchange) -> str | None:
        """The access token; callers at the same time share one request for it."""
        async with self._lock:
            if self._token is None or time.monotonic() >= self._good_until:
                await self._renew(exchange)
            return self._token

    def refused(self, token: str | None) -> bool:
        # Another request may have brought a new one since that token was sent.
        if token == self._token:
            self._token = None
        return True

    async def _renew(self, exchange: Exchange) -> None:
        url = self.token_url
        if url is None:
            body = await exchange(f"{self.server}/.well-known/smart-configuration")
            url = _read(body, _Configuration).token_endpoint
        granted = _read(await exchange(url, partial(self._form, url)), _Token)
        self.token_url = url  # kept only once it has proved right
        self._token = granted.access_token
        self._good_until = time.monotonic() + granted.expires_in - _RENEW_BEFORE_SECONDS

    def _form(self, audience: str) -> list[tuple[str, str]]:
        now = int(time.time())
        assertion = self.key.sign(
            {
                "iss": self.client_id,
                "sub": self.client_id,
                "aud": audience,
                "iat": now,
                "exp": now + _ASSERTION_SECONDS,
                "jti": str(uuid.uuid4()),
            }
        )
        return [
            ("grant_type", "client_credentials"),
            ("scope", self.scope),
            ("client_assertion_type", _ASSERTION),
            ("client_assertion", assertion),
        ]


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = "The FHIR server's authorization service did not answer as SMART prescribes."
        raise RequestError(502, Fault("transient", text)) from None
