"""Bearer tokens (RFC 6750): JWTs by their issuer's keys, others by introspection (RFC 7662)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import msgspec
from cachetools import TLRUCache

from app.access.keys import Key, KeySet, UnreadableError, fetch
from app.access.scopes import Caller
from app.fhir.outcome import Fault, RequestError
from app.setting_words import is_safe

_SKEW_SECONDS = 30
_LONGEST_TOKEN = 16_384
_RETRY_AFTER_SECONDS = 5
# By the type of the key and its curve; never one whose secret both sides know, never `none`.
_ALGORITHMS: Mapping[tuple[str, str | None], frozenset[str]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_METADATA_FRESH_SECONDS = 3600
# So long a token that was taken back may still be good, for each request not to wait for an answer.
_ACTIVE_SECONDS = 10
_MOST_REMEMBERED = 1_000
# What is later, or infinite, or no number, is no end of a token.
_END_OF_TIME = 1e12
# What a JWT says wrong, in our words: an exception's own may repeat the token.
_FAULTS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired ('exp')",
    jwt.ImmatureSignatureError: "is not yet valid ('nbf' or 'iat')",
    jwt.InvalidAudienceError: "is for another service ('aud')",
    jwt.InvalidIssuerError: "is of another issuer ('iss')",
    jwt.InvalidSignatureError: "is not signed by its issuer",
    jwt.InvalidKeyError: "is signed with a key that is too short",
}


class Issuer:
    """Who issues tokens: his metadata and his keys."""

    def __init__(
        self, name: str, jwks_url: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self.keys = KeySet(self.jwks_url, clock)
        self._jwks_url = jwks_url
        self._clock = clock
        self._metadata: Mapping[str, Any] = {}
        self._fetched = float("-inf")

    async def jwks_url(self) -> str:
        """Where his keys are; UnreadableError where that cannot be told."""
        return self._jwks_url or str((await self.metadata())["jwks_uri"])

    async def metadata(self) -> Mapping[str, Any]:
        """What he says of himself (OpenID Connect Discovery, RFC 8414); UnreadableError."""
        if self._clock() - self._fetched > _METADATA_FRESH_SECONDS:
            self._metadata = await self._discovered()
            self._fetched = self._clock()
        return self._metadata

    async def _discovered(self) -> Mapping[str, Any]:
        origin, path = _split(self.name.rstrip("/"))
        addresses = (
            f"{origin}{path}/.well-known/openid-configuration",
            f"{origin}/.well-known/oauth-authorization-server{path}",
        )
        why = ""
        for address in addresses:
            try:
                told = msgspec.json.decode(await fetch(address), type=dict[str, Any])
            except UnreadableError as error:
                why = str(error)
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                why = "it is not JSON"
                continue
            if told.get("issuer") != self.name:
                raise UnreadableError("its metadata are of another issuer")
            if not isinstance(told.get("jwks_uri"), str) or not is_safe(told["jwks_uri"]):
                raise UnreadableError("its metadata name no safe address of its keys")
            return told
        raise UnreadableError(why)


def _split(url: str) -> tuple[str, str]:
    """Scheme with host, and path."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path


class Tokens:
    """Tells from a JWT who calls."""

    def __init__(self, issuer: Issuer, audience: tuple[str, ...]) -> None:
        self.issuer = issuer
        self._audience = audience

    async def caller(self, token: str) -> Caller:
        """Who calls; RequestError 401 by what is wrong, 503 where the keys cannot be had."""
        header = header_of(token)
        if header is None:
            raise _invalid("is no JWT")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not any(algorithm in a for a in _ALGORITHMS.values()):
            raise _invalid("is signed in a way that is not taken ('alg')")
        if kid is not None and not isinstance(kid, str):
            raise _invalid("names no key ('kid')")
        keys = [k for k in await self.issuer.keys.found(kid) if _fits(k, algorithm)]
        if not keys and self.issuer.keys.why:
            why = f"The keys of the issuer of tokens cannot be had: {self.issuer.keys.why}."
            raise unavailable(why)
        if not keys or (kid is None and len(keys) > 1):
            raise _invalid("is signed with a key that its issuer does not name ('kid')")
        return caller_of(self._verified(token, keys[0], algorithm))

    def _verified(self, token: str, key: Key, algorithm: str) -> dict[str, Any]:
        options: Any = {
            "require": ["iss", "aud", "exp"],
            "enforce_minimum_key_length": True,
            # Who the user is may be said by any kind of name.
            "verify_sub": False,
            "verify_jti": False,
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(dict(key), algorithm),
                algorithms=[algorithm],
                options=options,
                audience=self._audience,
                issuer=self.issuer.name,
                leeway=_SKEW_SECONDS,
            )
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(f"lacks '{error.claim}'") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _invalid(_FAULTS.get(type(error), "is not valid")) from None
        if not _is_moment(claims["exp"]):
            raise _invalid("is not valid: it never ends ('exp')")
        return claims


def _is_moment(seconds: Any) -> bool:
    """Whether it is a number of seconds since 1970 (NumericDate) that a clock may come to."""
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return known and abs(seconds) < _END_OF_TIME


def _fits(key: Key, algorithm: str) -> bool:
    """Whether the key is one for the algorithm."""
    curve = key.get("crv") if key.get("kty") != "RSA" else None
    allowed = _ALGORITHMS.get((str(key.get("kty")), curve if curve is None else str(curve)), ())
    return algorithm in allowed and key.get("alg", algorithm) == algorithm


class Introspection:
    """Tells from an opaque token who calls, by asking its issuer."""

    def __init__(
        self,
        url: str,
        credentials: tuple[str, str] | None,
        issuer: str | None,
        audience: tuple[str, ...],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._known: TLRUCache[bytes, tuple[float, Caller]] = TLRUCache(
            _MOST_REMEMBERED, ttu=lambda _name, kept, _now: kept[0], timer=clock
        )

    async def caller(self, token: str) -> Caller:
        """Who calls; RequestError 401 where the token is not good, 503 where that is not told."""
        name = hashlib.sha256(token.encode()).digest()
        if kept := self._known.get(name):
            return kept[1]
        claims = await self._claims(token)
        now = self._clock()
        self._check(claims, now)
        caller = caller_of(claims)
        self._known[name] = min(now + _ACTIVE_SECONDS, claims.get("exp") or now + 60), caller
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            told = await fetch(self._url, form, self._credentials)
            return msgspec.json.decode(told, type=dict[str, Any])
        except UnreadableError as error:
            raise unavailable(f"The introspection of tokens cannot be had: {error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise unavailable("The introspection of tokens answers what is no JSON.") from None

    def _check(self, claims: Mapping[str, Any], now: float) -> None:
        if claims.get("active") is not True:
            raise _invalid("is not active")
        for name, fault in (("exp", "has expired ('exp')"), ("nbf", "is not yet valid ('nbf')")):
            seconds = claims.get(name)
            if seconds is None:
                continue
            if not _is_moment(seconds):
                raise _invalid(f"is told with a wrong '{name}'")
            if (seconds - now if name == "exp" else now - seconds) <= -_SKEW_SECONDS:
                raise _invalid(fault)
        if self._issuer and claims.get("iss", self._issuer) != self._issuer:
            raise _invalid("is of another issuer ('iss')")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self._audience and not any(one in named for one in self._audience):
            raise _invalid("is for another service ('aud')")


def header_of(token: str) -> Mapping[str, Any] | None:
    """The header of a JWT, None for what is none."""
    try:
        return jwt.get_unverified_header(token) if token.count(".") == 2 else None
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None


def token_in(authorization: str) -> str:
    """The token of an Authorization header; RequestError 401 where there is none."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        text = "Send 'Authorization: Bearer' with an access token."
        raise RequestError(401, Fault("login", text), challenge="Bearer")
    if len(token) > _LONGEST_TOKEN:
        raise _invalid("is longer than one may be")
    return token


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """Who a token is for; RequestError 401 where it does not say so in words."""
    client = claims.get("client_id") or claims.get("azp") or ""
    user, patient = claims.get("sub") or "", claims.get("patient") or ""
    scopes = claims.get("scope") or claims.get("scp") or ""
    if isinstance(scopes, list):
        scopes = " ".join(one for one in scopes if isinstance(one, str))
    if not all(isinstance(one, str) for one in (client, user, patient, scopes)):
        raise _invalid("has claims of a wrong type")
    if not client and not user:
        raise _invalid("does not say for whom it is ('client_id', 'sub')")
    return Caller(client, user, scopes, patient.removeprefix("Patient/"))


def _invalid(what: str) -> RequestError:
    text = f"The access token {what}."
    quoted = text.replace('"', "'")
    challenge = f'Bearer error="invalid_token", error_description="{quoted}"'
    return RequestError(401, Fault("login", text), challenge=challenge)


def unavailable(text: str) -> RequestError:
    """Whether a token is good cannot be told now."""
    return RequestError(503, Fault("transient", text), retry_after=_RETRY_AFTER_SECONDS)
