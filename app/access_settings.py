"""The settings that say who may call: tokens, certificates, proxies; and what is written down."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.setting_words import is_safe, listed, shape

PREFIX = "MAA_"


def _networks(value: Any) -> Any:
    """As `listed`; ValueError for what is no IP address or network."""
    words = listed(value)
    for word in words or ():
        ipaddress.ip_network(word)
    return words


class AccessSettings(BaseSettings):
    """Who may call, as the operator says."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        # A token must not come back in an error about its neighbour.
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    auth_issuer: str | None = Field(
        default=None, title="an https URL", examples=["https://auth.example.org/realms/hospital"]
    )
    """Whose access tokens (JWT) are taken. Its keys are where its OpenID or OAuth metadata say."""
    auth_jwks_url: str | None = Field(
        default=None, title="an https URL", examples=["https://auth.example.org/jwks"]
    )
    """Where the issuer's keys are, where its metadata are not to be asked."""
    auth_audience: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(), title="names between commas", examples=["https://maa.example.org/fhir"]
    )
    """What a token's `aud` must name, one of these. By default `/fhir` below MAA_PUBLIC_URL."""
    auth_introspection_url: str | None = Field(
        default=None, title="an https URL", examples=["https://auth.example.org/introspect"]
    )
    """Where tokens that are no JWT (without MAA_AUTH_ISSUER: all) are looked up (RFC 7662)."""
    auth_client_id: str | None = Field(default=None, examples=["maa-assess"])
    """Who we are to the introspection; goes with the secret."""
    auth_client_secret: SecretStr | None = Field(default=None, examples=["n0t-t0ld"])
    """The secret for the introspection (HTTP Basic)."""
    auth_certificate_header: str | None = Field(
        default=None,
        pattern="^[A-Za-z][A-Za-z0-9-]*$",
        title="the name of a header",
        examples=["X-Client-Subject"],
    )
    """The header in which one of MAA_TRUSTED_PROXIES names the client whose certificate it has
    checked. Such a client may do all that a token of the scope `system/*.rs` may."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = Field(
        default=(), title="IP addresses or networks between commas", examples=["127.0.0.1"]
    )
    """The proxies that are believed who called them (X-Forwarded-For, -Proto, and the header of
    certificates)."""
    rate_limit: str | None = Field(
        default=None,
        pattern="^[1-9][0-9]{0,8}/(second|minute|hour|day)$",
        title="a number of requests by second, minute, hour or day",
        examples=["600/minute"],
    )
    """How often one caller may call operations and hooks, of each worker; more is 429. A caller is
    who the token or the certificate names, else an address (of IPv6 a network of 64 bits)."""
    audit: str | None = Field(
        default=None,
        pattern="^(file:///|https?://)[^?#]+$",
        title="file:///path or the https URL of a FHIR server",
        examples=["file:///var/log/maa-assess/audit.jsonl"],
    )
    """Where an AuditEvent (IHE BALP) goes for each patient assessed over HTTP: a file of JSON
    lines, or a FHIR server."""
    audit_spool: Path | None = Field(
        default=None, title="the path of a directory", examples=["/var/lib/maa-assess/audit"]
    )
    """Where AuditEvents wait until they are delivered; goes with MAA_AUDIT."""
    audit_spool_events: int = Field(default=100_000, ge=1)
    """How many AuditEvents may wait there."""
    audit_token: SecretStr | None = Field(default=None, examples=["eyJhbGciOi..."])
    """A bearer token for the FHIR server that takes the AuditEvents."""
    audit_required: bool = True
    """Whether nobody is answered (503) while AuditEvents cannot be kept; else it is logged how many
    went unwritten."""
    insecure: bool = Field(default=False, examples=["true"])
    """Whether to answer beyond loopback though nobody has to say who he is; said at each start.
    Without effect where callers are asked who they are."""

    @property
    def authenticates(self) -> bool:
        """Whether callers of the operations have to say who they are."""
        return self.asks_for_tokens or self.auth_certificate_header is not None

    @property
    def asks_for_tokens(self) -> bool:
        """Whether access tokens are a way to say so."""
        return bool(self.auth_issuer or self.auth_introspection_url)

    def faults_of_access(self) -> Iterator[str]:
        """What does not fit together, a line each."""
        for name in ("auth_issuer", "auth_jwks_url", "auth_introspection_url"):
            address = getattr(self, name)
            if address is not None and not is_safe(address):
                yield (
                    f"{PREFIX}{name.upper()} is {shape(address)}; it takes an https URL without "
                    "user, query or fragment, or an http one on loopback."
                )
        if self.auth_jwks_url and not self.auth_issuer:
            yield "MAA_AUTH_JWKS_URL needs MAA_AUTH_ISSUER: whose keys they are."
        if bool(self.auth_client_id) != bool(self.auth_client_secret):
            yield "MAA_AUTH_CLIENT_ID and MAA_AUTH_CLIENT_SECRET go together: set both, or none."
        if self.auth_client_id and not self.auth_introspection_url:
            yield "MAA_AUTH_CLIENT_ID needs MAA_AUTH_INTROSPECTION_URL."
        if bool(self.audit) != bool(self.audit_spool):
            yield "MAA_AUDIT and MAA_AUDIT_SPOOL go together: set both, or none."
        if (self.audit or "").startswith("http") and not is_safe(self.audit or ""):
            yield "MAA_AUDIT takes an https URL, or an http one on loopback."
        if self.auth_certificate_header and not self.trusted_proxies:
            yield (
                "MAA_AUTH_CERTIFICATE_HEADER needs MAA_TRUSTED_PROXIES: from anybody else the "
                "header is worth nothing."
            )
        if re.fullmatch("authorization|host|forwarded", self.auth_certificate_header or "", re.I):
            yield "MAA_AUTH_CERTIFICATE_HEADER is a header of another meaning."
