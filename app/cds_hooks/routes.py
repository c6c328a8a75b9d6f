"""The addresses of CDS Hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial

from fastapi import APIRouter, Request
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from app.body import Body, body_of, elsewhere_if_large
from app.cds_hooks.answers import answer
from app.cds_hooks.calls import Call, read_call
from app.cds_hooks.discovery import HOOK, Service, discovery, service_named, services_with
from app.cds_hooks.documents import CALL_DOCUMENT, DISCOVERY_DOCUMENT, FEEDBACK_DOCUMENT
from app.cds_hooks.feedback import Feedback, FeedbackCounter, read_feedback
from app.cds_hooks.prefetch import OpenServer, Sent, gather, sent_along
from app.cds_hooks.remembered import Remembered
from app.cds_hooks.trust import ClientTrust
from app.fhir.json import Json, encode
from app.fhir.maps import CodeMap
from app.fhir.outcome import RequestError
from app.logs import tell
from app.settings import Settings

router = APIRouter(tags=["cds-hooks"])


class CdsHooks:
    """What the addresses share: settings, the clients trusted, the feedback counted."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry,
        open_server: OpenServer,
        code_map: CodeMap | None = None,
        store: Remembered | None = None,
    ) -> None:
        self.settings = settings
        self.services = services_with(code_map)
        self.open_server = open_server
        self.trust = (
            ClientTrust(settings.cds_clients, used=store) if settings.cds_require_jwt else None
        )
        self.feedback = FeedbackCounter(registry, store)
        self.today: Callable[[], date] = lambda: datetime.now(UTC).date()

    def address(self, request: Request) -> str:
        """Where this service is reached, without a slash at the end."""
        return self.settings.address(str(request.base_url))

    async def require_trusted(self, request: Request) -> None:
        """RequestError 401 or 403 unless the call comes from a client that is trusted."""
        if self.trust:
            called = self.address(request) + request.url.path.removeprefix(
                request.scope.get("root_path", "")
            )
            await self.trust.check(request.headers.get("authorization"), called)


async def _trusted(request: Request) -> CdsHooks:
    hooks: CdsHooks = request.app.state.cds_hooks
    await hooks.require_trusted(request)
    return hooks


def _json(value: Json) -> Response:
    return Response(encode(value), media_type="application/json")


@router.get(
    "/cds-services",
    operation_id="cds-services",
    summary="CDS Hooks: the services and what they need",
    response_class=Response,
    **DISCOVERY_DOCUMENT,
)
async def services(request: Request) -> Response:
    """Discovery."""
    hooks = await _trusted(request)
    return _json(discovery(hooks.services))


@router.post(
    "/cds-services/{service_id}",
    operation_id="cds-service",
    summary="CDS Hooks: the answer as a card",
    response_class=Response,
    **CALL_DOCUMENT,
)
async def call_service(request: Request, service_id: str) -> Response:
    """A triggered hook in, cards out."""
    hooks = await _trusted(request)
    service = service_named(service_id, hooks.services)
    async with body_of(request) as body:
        opened = await elsewhere_if_large(request, partial(_opened, body, service), body)
        return await _cards(request, hooks, service, *opened)


def _opened(body: Body, service: Service) -> tuple[Call, Sent]:
    """The call, and what was sent along of the patient's data."""
    call = read_call(body.plain(), HOOK)
    sent = sent_along(call, service)
    return replace(call, prefetch=None), sent


async def _cards(
    request: Request, hooks: CdsHooks, service: Service, call: Call, sent: Sent
) -> Response:
    said = "refused"
    try:
        allowed = hooks.settings.cds_fhir_servers
        gathered = await gather(call, service, sent, allowed, hooks.open_server)
        make = partial(
            answer, service, call, gathered, hooks.settings, hooks.address(request), hooks.today()
        )
        cards = await elsewhere_if_large(request, make, gathered.data)
        said = f"cards {len(cards['cards'])}"
        return _json(cards)
    except RequestError as error:
        said = f"refused {error.status}"
        raise
    finally:
        fields = {"service": service.id, "hookInstance": call.hookInstance.lower(), "said": said}
        tell(logging.INFO, "hook", fields)


@router.post(
    "/cds-services/{service_id}/feedback",
    operation_id="cds-feedback",
    summary="CDS Hooks: what users did with cards",
    response_class=Response,
    **FEEDBACK_DOCUMENT,
)
async def feedback(request: Request, service_id: str) -> Response:
    """Feedback in; it is counted, not kept."""
    hooks = await _trusted(request)
    service = service_named(service_id, hooks.services)
    async with body_of(request) as body:
        given = await elsewhere_if_large(request, partial(_feedback, body), body)
    await hooks.feedback.count(service, given)
    return _json({"received": len(given)})


def _feedback(body: Body) -> tuple[Feedback, ...]:
    return read_feedback(body.plain())
