"""Which clients are trusted: the signed token (JWT) that comes with every call."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt
import msgspec

from app.access.keys import KeySet
from app.cds_hooks.remembered import InMemory, Remembered
from app.fhir.outcome import Fault, RequestError
from app.settings import CdsClient

# What CDS Hooks recommends; neither unsigned nor signed with a shared secret.
_KEY_TYPES = {"ES384": ("EC", "P-384"), "RS384": ("RSA", None)}
_CLAIMS = ("iss", "aud", "exp", "iat", "jti")
_SKEW_SECONDS = 30
# A token that lives longer would have to be remembered longer, so as not to be used twice.
_LIFETIME_SECONDS = 3600
_REMEMBERED = 100_000
# Neither infinite nor no number at all: NaN compares as nothing does.
_END_OF_TIME = 1e12


class ClientTrust:
    """Checks the token of a call; keeps keys in memory, and which tokens were used in `used`."""

    def __init__(
        self,
        clients: tuple[CdsClient, ...],
        clock: Callable[[], float] = time.time,
        used: Remembered | None = None,
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._keys = {client.jku: KeySet(_at(client.jku), clock) for client in clients}
        self._used = used or InMemory(_REMEMBERED, clock)

    async def check(self, authorization: str | None, address: str) -> None:
        """Returns where the token is good for the address that was called.

        RequestError 401 says which header or claim is not, 403 which one is not on the list.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refused(401, "Send 'Authorization: Bearer' with a JWT that you signed.")
        token = token.strip()
        header, claims = _unverified(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES:
            raise _refused(401, f"'alg' of the token is one of {', '.join(_KEY_TYPES)}.")
        if not isinstance(header.get("kid"), str):
            raise _refused(401, "'kid' of the token names the key it is signed with.")
        client = self._client(header, claims)
        key = await self._key(client.jku, header["kid"], algorithm)
        claims = _verified(token, key, algorithm, self._clock())
        _check_audience(claims, address, client.aud)
        await self._use_once(claims)

    def _client(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> CdsClient:
        """The client that the token says it is from, as it is on the list."""
        known = [client for client in self._clients if client.iss == claims.get("iss")]
        if not known:
            raise _refused(403, "'iss' of the token is not a client that is trusted here.")
        if "jku" in header:
            known = [client for client in known if client.jku == header["jku"]]
            if not known:
                raise _refused(403, "'jku' of the token is not the one agreed on for its 'iss'.")
        tenant = claims.get("tenant")
        known = [client for client in known if client.tenant is None or client.tenant == tenant]
        if not known:
            raise _refused(403, "'tenant' of the token is not the one agreed on for its 'iss'.")
        known = [one for one in known if one.sub is None or one.sub == claims.get("sub")]
        if not known:
            raise _refused(403, "'sub' of the token is not the one agreed on for its 'iss'.")
        return known[0]

    async def _key(self, jku: str, kid: str, algorithm: str) -> jwt.PyJWK:
        keys = self._keys[jku]
        found = await keys.found(kid)
        if not found:
            why = f": the key set cannot be read, {keys.why}" if keys.why else ""
            raise _refused(401, f"'kid' of the token is in no key set of its client{why}.")
        kind, curve = _KEY_TYPES[algorithm]
        key = found[0]
        if key.get("kty") != kind or (curve and key.get("crv") != curve):
            raise _refused(401, "'alg' of the token does not fit the key that 'kid' names.")
        try:
            return jwt.PyJWK(dict(key), algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _refused(401, "The key that 'kid' names cannot be used.") from None

    async def _use_once(self, claims: Mapping[str, Any]) -> None:
        """RequestError 401 for a token that was used before."""
        name = hashlib.sha256(msgspec.json.encode([claims["iss"], claims["jti"]])).digest()
        if not await self._used.is_new(name, claims["exp"] + _SKEW_SECONDS):
            raise _refused(401, "'jti' of the token was used before: sign a token for each call.")


def _unverified(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the token says of itself before it is believed."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return jwt.get_unverified_header(token), claims
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _refused(401, "The token is not a JWT.") from None


def _at(url: str) -> Callable[[], Awaitable[str]]:
    async def address() -> str:
        return url

    return address


def _verified(token: str, key: jwt.PyJWK, algorithm: str, now: float) -> dict[str, Any]:
    """The token's claims, once its signature and all of them are good."""
    options: Any = {
        "require": list(_CLAIMS),
        "enforce_minimum_key_length": True,
        # By our own clock below.
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
        "verify_aud": False,
        "verify_sub": False,
    }
    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm], options=options)
    except jwt.MissingRequiredClaimError as error:
        raise _refused(401, f"'{error.claim}' is missing from the token.") from None
    except jwt.InvalidSignatureError:
        raise _refused(401, "The signature of the token is not of the key 'kid' names.") from None
    except jwt.PyJWTError:
        raise _refused(401, "The token or its key is not valid.") from None
    _check_times(claims, now)
    if not isinstance(claims["jti"], str) or not claims["jti"].isprintable() or not claims["jti"]:
        raise _refused(401, "'jti' of the token is a string of printable characters.")
    return claims


def _check_audience(claims: Mapping[str, Any], address: str, agreed: str | None) -> None:
    """RequestError 401 for a token made for another address than this, or the one agreed on."""
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if address not in audience and (agreed is None or agreed not in audience):
        # What clients get wrong most: the address of the service called, not of this server.
        or_agreed = " nor the one agreed on" if agreed else ""
        raise _refused(401, f"'aud' of the token is not the address called, {address}{or_agreed}.")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("exp", "iat", "nbf"):
        seconds = claims.get(name, 0)
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not known or not abs(seconds) < _END_OF_TIME:
            raise _refused(401, f"'{name}' of the token is a number of seconds.")
    if claims["exp"] + _SKEW_SECONDS <= now:
        raise _refused(401, "'exp' of the token is past: it has expired.")
    for name in ("iat", "nbf"):
        if claims.get(name, 0) - _SKEW_SECONDS > now:
            raise _refused(401, f"'{name}' of the token is in the future.")
    if claims["exp"] > now + _LIFETIME_SECONDS + _SKEW_SECONDS:
        text = f"'exp' of the token is more than {_LIFETIME_SECONDS} seconds away."
        raise _refused(401, text)


def _refused(status: int, text: str) -> RequestError:
    return RequestError(status, Fault("login" if status == 401 else "forbidden", text))
