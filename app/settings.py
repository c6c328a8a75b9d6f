"""Every setting, its default and its environment variable (MAA_ and the name in capitals)."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import NoDecode

from app.access_settings import PREFIX, AccessSettings
from app.setting_words import SettingsError as SettingsError
from app.setting_words import is_safe, listed, listed_hosts, listed_origins, shape, taken

_FILE = "_FILE"
_SECRET_BYTES = 65_536
# What Kubernetes and Docker put into the environment for a service of the name `maa`.
_OF_AN_ORCHESTRATOR = re.compile(
    r"MAA_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)", re.ASCII
)


class CdsClient(BaseModel):
    """A CDS Hooks client that is trusted: who issues its tokens, and where its keys are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iss: str = Field(min_length=1)
    jku: str = Field(min_length=1)
    """Its JSON Web Key Set: https, or http on this machine's loopback."""
    tenant: str | None = None
    """The one tenant it may speak for; None: any, or none."""
    sub: str | None = Field(default=None, min_length=1)
    """What the `sub` of its tokens must be (Epic: the client's id); None: it is not looked at."""
    aud: str | None = Field(default=None, min_length=1)
    """An `aud` that its tokens may have in place of the address called (Epic: as it was set up)."""


class Settings(AccessSettings):
    """The service's settings; the environment overrides the defaults."""

    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest request body that is read."""
    connections: int = Field(default=1000, ge=1)
    """The most connections at one time, idle ones too; further ones are refused (503)."""
    header_bytes: int = Field(default=64 * 1024, ge=1024)
    """The longest head of a request: its address and headers."""
    header_seconds: float = Field(default=10, gt=0)
    """The time the head of a request may take to arrive."""
    write_seconds: float = Field(default=120, gt=0)
    """The time a client may take to read an answer."""
    body_seconds: float = Field(default=60, gt=0)
    """The time a body may take to arrive."""
    max_bytes_at_once: int = Field(default=20 * 1024 * 1024, ge=1)
    """The most bytes of large bodies, and as many of small ones, that are held at one time; further
    ones are asked to come again (503)."""
    max_answer_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest answer that is written; what would be larger is refused (413)."""
    evaluations: int = Field(default=2, ge=1)
    """How many large bodies are assessed at one time, each in a process of its own."""
    evaluations_waiting: int = Field(default=32, ge=0)
    """How many more may wait for one of those; further ones are asked to come again (503)."""
    evaluation_seconds: float = Field(default=10, gt=0)
    """The time one assessment may take, and the time it may wait before."""
    evaluation_steps: int = Field(default=2_000_000, ge=1)
    """The steps of work that one assessment may take, about a microsecond each."""
    evaluation_memory_bytes: int = Field(default=80 * 1024 * 1024, ge=32 * 1024 * 1024)
    """The memory of each process that assesses."""
    window_days: int = Field(default=30, ge=1, le=36_500)
    """Counts older than this before the newest one judged are not combined with it."""
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(listed_origins)] = (
        Field(
            default=None,
            title="origins (scheme, host and port) between commas, or *",
            examples=["https://ehr.example.org"],
        )
    )
    """The web origins whose scripts may call; `*` is any. By default any, and none where a FHIR
    server is set: a page must not read patients with our credentials."""
    trusted_hosts: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(listed_hosts)] = (
        Field(
            default=None,
            title="names of hosts, without scheme and port, between commas, or *",
            examples=["maa.example.org"],
        )
    )
    """The names this service may be called by (the Host header); `*` is any, `*.example.org` all
    below it. By default any; where a FHIR server is set, `localhost`, IP addresses and the host of
    MAA_PUBLIC_URL, so that no page reaches patients under a name of its own (DNS rebinding)."""

    code_maps: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(), title="files between commas", examples=["/etc/maa/codes.csv"]
    )
    """Files that map the hospital's own codes to LOINC, each a FHIR ConceptMap or a CSV."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: `info` is a line for each request, `debug` also health checks."""
    log_format: Literal["json", "text"] | None = Field(default=None, examples=["json"])
    """How; by default text on a terminal, else JSON."""
    traces: bool = Field(default=False, examples=["true"])
    """Whether to send OpenTelemetry spans (the extra `otel`): of each request its route, status and
    verdicts. Where to, OTEL_EXPORTER_OTLP_ENDPOINT says."""
    graceful_shutdown_seconds: int = Field(default=20, ge=1)
    """How long `maa-assess serve` answers what it has begun after SIGTERM; then it breaks off."""

    fhir_server: str | None = Field(
        default=None, title="an https URL", examples=["https://fhir.example.org/r4"]
    )
    """The base URL of the FHIR server that the patient-level operations read from."""
    fhir_allow_http: bool = False
    """Whether a FHIR server that is not on loopback may be asked without TLS."""
    fhir_token: SecretStr | None = Field(default=None, examples=["eyJhbGciOi..."])
    """A bearer token for the FHIR server."""
    fhir_client_id: str | None = Field(default=None, examples=["maa-assess"])
    """The client's id for SMART Backend Services; goes with the private key."""
    fhir_private_key_file: Path | None = Field(
        default=None, title="the path of a file", examples=["/run/secrets/key.pem"]
    )
    """PEM or JWK file: RSA signs RS384, EC P-384 signs ES384."""
    fhir_key_id: str | None = Field(default=None, examples=["key-2026"])
    """The `kid` under which the key is registered; a JWK brings its own."""
    fhir_scope: str = (
        "system/Patient.rs system/Observation.rs system/Procedure.rs "
        "system/MedicationAdministration.rs"
    )
    """The scopes asked for; older servers want `.read` in place of `.rs`. Those of Condition,
    MedicationRequest and MedicationStatement let other causes of low counts be looked for."""
    fhir_token_url: str | None = Field(
        default=None, title="an https URL", examples=["https://auth.example.org/token"]
    )
    """Where tokens are had; by default what the server's SMART configuration says."""
    fhir_search_by_post: bool = False
    """Search by `POST [type]/_search`, which keeps patient ids out of access logs."""
    fhir_server_warnings: Literal["remark", "refuse"] = "remark"
    """What is done where the server warns that data may be missing (an OperationOutcome in a
    searchset): `remark` answers and says so (`source-warning`), `refuse` gives no answer (502)."""
    fhir_page_count: int = Field(default=200, ge=1)
    """How many resources are asked for at a time."""
    fhir_timeout_seconds: float = Field(default=10, gt=0)
    """To connect to the FHIR server, and between two pieces of its answer."""
    fhir_deadline_seconds: float = Field(default=30, gt=0)
    """For all that one patient needs, retries too."""
    fhir_connections: int = Field(default=32, ge=4)
    """The most requests to the FHIR server at one time, at most four of them for one patient."""
    fhir_max_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """The most that is read for one patient."""

    public_url: str | None = Field(
        default=None,
        pattern="^https?://[^?#]+$",
        title="an http or https URL without query and fragment",
        examples=["https://maa.example.org"],
    )
    """The address others know the service by, where that is not the one it is called by."""
    shared_store: SecretStr | None = Field(
        default=None,
        title="sqlite:///path or redis://host:port/number",
        examples=["sqlite:///var/lib/maa-assess/shared.db"],
    )
    """Where workers remember together which CDS Hooks tokens were used and which feedback came: an
    SQLite file for those of one machine, Redis (the extra `redis`) for any. By default each worker
    remembers for itself, so that a token may be used once with each."""
    cds_fhir_servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(), title="URLs between commas", examples=["https://fhir.example.org/r4"]
    )
    """FHIR servers that may be read with the token of a CDS Hooks call."""
    cds_silent_when_normal: bool = True
    """No card where no count is low."""
    cds_silent_when_not_met: bool = True
    """No card where the counts do not meet the definition, or are open with nothing to order;
    counts of severe disease are told of all the same."""
    cds_silent_when_explained: bool = True
    """No card where the chart records a malignant disease of blood or marrow, or chemotherapy."""
    cds_newest_within_days: int = Field(default=90, ge=0, le=36_500)
    """No card where the newest count judged is older than this at the call; 0: of any age."""
    cds_require_jwt: bool = False
    """Whether every CDS Hooks request needs a JWT of one of MAA_CDS_CLIENTS."""
    cds_clients: Annotated[tuple[CdsClient, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(),
        title="a JSON list of objects with iss, jku and, where agreed on, tenant, sub and aud",
        examples=['[{"iss": "https://ehr.example.org", "jku": "https://ehr.example.org/jwks"}]'],
    )
    """The CDS Hooks clients whose tokens are trusted."""

    smart_issuers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(), title="URLs between commas", examples=["https://ehr.example.org/r4"]
    )
    """The FHIR servers of the EHRs that may launch the page (SMART App Launch); where an EHR gives
    its tokens at another origin, that one too. By default none, and the page is not launched."""
    smart_client_id: str | None = Field(default=None, examples=["maa-assess"])
    """The public client's id that these EHRs know the page by."""
    smart_scope: str = (
        "patient/Patient.rs patient/Observation.rs patient/Procedure.rs "
        "patient/MedicationAdministration.rs"
    )
    """The scopes the page asks for; older EHRs want `.read` in place of `.rs`."""

    @property
    def reads_patients(self) -> bool:
        """Whether whoever reaches the service can read patients with its own credentials."""
        return self.fhir_server is not None

    def may_launch(self, fhir_server: str | None) -> bool:
        """Whether the EHR of a FHIR server may launch the page; None: of one that names none."""
        if fhir_server is None:
            return bool(self.smart_issuers)
        return fhir_server.rstrip("/") in {issuer.rstrip("/") for issuer in self.smart_issuers}

    @property
    def prefix(self) -> str:
        """The path below which others know the service, without a slash at the end."""
        return urlsplit(self.public_url or "").path.rstrip("/")

    @property
    def audience(self) -> tuple[str, ...]:
        """What a token's `aud` must name one of; nothing: it is not looked at."""
        ours = (f"{self.public_url.rstrip('/')}/fhir",) if self.public_url else ()
        return self.auth_audience or ours

    def address(self, called: str) -> str:
        """Where others reach the service, without a slash at the end; `called` is a base URL."""
        return (self.public_url or called).rstrip("/")

    @property
    def origins(self) -> tuple[str, ...]:
        """The web origins whose scripts may call."""
        if self.cors_origins is None:
            return () if self.reads_patients else ("*",)
        return self.cors_origins

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The names this service may be called by beside `localhost` and IP addresses; None: any.

        A page of another's can bring its own name to our address, but no IP address.
        """
        if self.trusted_hosts is not None:
            return None if "*" in self.trusted_hosts else self.trusted_hosts
        if not self.reads_patients:
            return None
        named = urlsplit(self.public_url or "").hostname
        return (named,) if named else ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.fhir_client_id) != bool(self.fhir_private_key_file):
            raise ValueError(
                "MAA_FHIR_CLIENT_ID and MAA_FHIR_PRIVATE_KEY_FILE go together: set both, or none."
            )
        if self.fhir_client_id and self.fhir_token:
            raise ValueError("MAA_FHIR_TOKEN and MAA_FHIR_CLIENT_ID are two ways: choose one.")
        if self.reads_patients and "*" in self.origins:
            raise ValueError(
                "MAA_CORS_ORIGINS is '*' beside MAA_FHIR_SERVER: any web page could read patients. "
                "Name the origins whose scripts may call."
            )
        if bool(self.smart_issuers) != bool(self.smart_client_id):
            raise ValueError(
                "MAA_SMART_ISSUERS and MAA_SMART_CLIENT_ID go together: set both, or none."
            )
        self._check_addresses()
        self._check_store()
        for fault in self.faults_of_access():
            raise ValueError(fault)
        if self.authenticates and self.auth_issuer and not self.audience:
            raise ValueError(
                "MAA_AUTH_ISSUER needs MAA_AUTH_AUDIENCE or MAA_PUBLIC_URL: a token for another "
                "service must not do here."
            )
        if self.cds_require_jwt and not (self.cds_clients and self.public_url):
            # Without an address of our own, a token for another service would do: the Host
            # header is the caller's.
            raise ValueError("MAA_CDS_REQUIRE_JWT needs MAA_CDS_CLIENTS and MAA_PUBLIC_URL.")
        return self

    def _check_store(self) -> None:
        """ValueError for a store of a kind that there is not."""
        if self.shared_store is None:
            return
        text = self.shared_store.get_secret_value()
        if not re.match(r"sqlite:///[^/]|rediss?://[^/]|unix:///", text):
            raise ValueError(
                f"MAA_SHARED_STORE is {shape(text)}; it takes {takes('shared_store')}."
            )

    def _check_addresses(self) -> None:
        """ValueError for an address that would be asked without TLS, or is none."""
        given = {
            "MAA_FHIR_SERVER": (self.fhir_server,),
            "MAA_FHIR_TOKEN_URL": (self.fhir_token_url,),
            "MAA_CDS_FHIR_SERVERS": self.cds_fhir_servers,
            "MAA_SMART_ISSUERS": self.smart_issuers,
        }
        for name, addresses in given.items():
            for address in addresses:
                if address is not None and not is_safe(address, self.fhir_allow_http):
                    raise ValueError(
                        f"{name} is {shape(address)}; it takes an https URL without user, query "
                        "or fragment, and http only with MAA_FHIR_ALLOW_HTTP=true."
                    )


def read_settings() -> Settings:
    """The settings of the environment; SettingsError tells every mistake, and no secret.

    A secret may stand in a file: MAA_FHIR_TOKEN_FILE names it.
    """
    given = {name.upper(): text for name, text in os.environ.items() if text}
    ours = {name: text for name, text in given.items() if name.startswith(PREFIX)}
    lines = [*_unknown(ours)]
    secrets: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        if variable + _FILE in ours and SecretStr in (
            field.annotation,
            *get_args(field.annotation),
        ):
            if variable in ours:
                lines.append(f"{variable} and {variable}{_FILE} are both set: keep one.")
            try:
                secrets[name] = SecretStr(_secret(Path(ours[variable + _FILE])))
            except ValueError as error:
                lines.append(f"{variable}{_FILE} names {error}; it takes a file with the secret.")
    try:
        settings = Settings(**secrets)
    except ValidationError as error:
        raise SettingsError(*lines, *(_told(one, ours) for one in error.errors())) from None
    if lines:
        raise SettingsError(*lines)
    return settings


def _unknown(given: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable of ours that is no setting: a misspelled one must not be ignored."""
    known = {PREFIX + name.upper(): field for name, field in Settings.model_fields.items()}
    files = {f"{name}{_FILE}" for name, f in known.items() if SecretStr in get_args(f.annotation)}
    for name in sorted(given):
        if name in known or name in files or _OF_AN_ORCHESTRATOR.fullmatch(name):
            continue
        nearest = difflib.get_close_matches(name, [*known, *files], 1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "docs/operations.md lists them."
        yield f"{name} is no setting; {remedy}"


def _secret(path: Path) -> str:
    """What a file of a secret holds; ValueError says why it cannot be had, and nothing of it."""
    try:
        with path.open("rb") as file:
            text = file.read(_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise ValueError(f"what cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("a file that is not text") from None
    if not text:
        raise ValueError("an empty file")
    return text


def _told(error: ErrorDetails, given: Mapping[str, str]) -> str:
    """One mistake as one line."""
    if not error["loc"]:
        return str(error["ctx"]["error"])
    name, *inner = error["loc"]
    variable = PREFIX + str(name).upper()
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in inner)
    looks = shape(given.get(variable, ""))
    if place:
        looks = f"{looks}, wrong at {place}"
    return f"{variable} is {looks}; it takes {takes(str(name))}."


def takes(name: str) -> str:
    """What a setting takes, in words, with an example."""
    return taken(Settings.model_fields[name])
