"""Every setting, its default and its environment variable (MAA_ and the name in capitals)."""

from pathlib import Path
from typing import Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CdsClient(BaseModel):
    """A CDS Hooks client that is trusted: who issues its tokens, and where its keys are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iss: str = Field(min_length=1)
    jku: str = Field(min_length=1)
    """Its JSON Web Key Set: https, or http on this machine's loopback."""
    tenant: str | None = None
    """The one tenant it may speak for; None: any, or none."""


class Settings(BaseSettings):
    """The service's settings; the environment overrides the defaults."""

    model_config = SettingsConfigDict(env_prefix="MAA_", env_ignore_empty=True, frozen=True)

    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest request body that is read."""
    window_days: int = Field(default=30, ge=1, le=36_500)
    """Counts older than this before the newest one judged are not combined with it."""
    cors_origins: tuple[str, ...] = ("*",)
    """The web origins whose scripts may call, as a JSON list; `*` is any, without credentials."""

    fhir_server: str | None = None
    """The base URL of the FHIR server that the patient-level operations read from."""
    fhir_allow_http: bool = False
    """Whether a FHIR server that is not on loopback may be asked without TLS."""
    fhir_token: SecretStr | None = None
    """A bearer token for the FHIR server."""
    fhir_client_id: str | None = None
    """The client's id for SMART Backend Services; goes with the private key."""
    fhir_private_key_file: Path | None = None
    """PEM or JWK file: RSA signs RS384, EC P-384 signs ES384."""
    fhir_key_id: str | None = None
    """The `kid` under which the key is registered; a JWK brings its own."""
    fhir_scope: str = (
        "system/Patient.rs system/Observation.rs system/Procedure.rs "
        "system/MedicationAdministration.rs"
    )
    """The scopes asked for; older servers want `.read` in place of `.rs`."""
    fhir_token_url: str | None = None
    """Where tokens are had; by default what the server's SMART configuration says."""
    fhir_search_by_post: bool = False
    """Search by `POST [type]/_search`, which keeps patient ids out of access logs."""
    fhir_page_count: int = Field(default=200, ge=1)
    """How many resources are asked for at a time."""
    fhir_timeout_seconds: float = Field(default=10, gt=0)
    """To connect to the FHIR server, and between two pieces of its answer."""
    fhir_deadline_seconds: float = Field(default=30, gt=0)
    """For all that one patient needs, retries too."""
    fhir_max_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """The most that is read for one patient."""

    public_url: str | None = Field(default=None, pattern="^https?://[^?#]+$")
    """The address others know the service by, where that is not the one it is called by."""
    cds_fhir_servers: tuple[str, ...] = ()
    """FHIR servers that may be read with the token of a CDS Hooks call, as a JSON list."""
    cds_silent_when_normal: bool = True
    """No card where no count is low."""
    cds_newest_within_days: int = Field(default=90, ge=0, le=36_500)
    """No card where the newest count judged is older than this at the call; 0: of any age."""
    cds_require_jwt: bool = False
    """Whether every CDS Hooks request needs a JWT of one of the `cds_clients`."""
    cds_clients: tuple[CdsClient, ...] = ()
    """The CDS Hooks clients trusted, as a JSON list of iss, jku and, if there is one, tenant."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.fhir_client_id) != bool(self.fhir_private_key_file):
            raise ValueError("fhir_client_id and fhir_private_key_file go together.")
        if self.fhir_client_id and self.fhir_token:
            raise ValueError("fhir_token and fhir_client_id are two ways: choose one.")
        for name in ("fhir_server", "fhir_token_url"):
            address = getattr(self, name)
            if address is not None and not self._may_be_asked(address):
                raise ValueError(
                    f"{name} is an https URL without user, query or fragment; "
                    "fhir_allow_http permits http."
                )
        for address in self.cds_fhir_servers:
            if not self._may_be_asked(address):
                raise ValueError("cds_fhir_servers are https URLs; fhir_allow_http permits http.")
        if self.cds_require_jwt and not (self.cds_clients and self.public_url):
            # Without an address of our own, a token for another service would do: the Host
            # header is the caller's.
            raise ValueError("cds_require_jwt needs cds_clients and public_url")
        return self

    def _may_be_asked(self, address: str) -> bool:
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            return False
        open_to_http = self.fhir_allow_http or url.host in {"localhost", "127.0.0.1", "::1"}
        plain = not (url.userinfo or url.query or url.fragment)
        schemes = {"https", *(["http"] if open_to_http else [])}
        return bool(url.host) and plain and url.scheme in schemes
