"""After an operation, before its answer leaves: whom it told of is written down."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.audit import Happened, events_of
from app.access.spool import Spool, SpoolError
from app.api.fhir_json import request_error
from app.domain.counts import Patient
from app.domain.tally import TALLY
from app.fhir.outcome import Fault, RequestError
from app.logs import tell

_RETRY_AFTER_SECONDS = 30


class Auditing:
    """Writes an AuditEvent for each patient assessed, before anybody is told.

    Where that cannot be, the answer is 503 if it is `required`, else it goes unwritten, and the log
    says of how many patients.
    """

    def __init__(
        self, app: ASGIApp, spool: Spool, required: bool, issuer: str | None, server: str | None
    ) -> None:
        self._app = app
        self._spool = spool
        self._required = required
        self._issuer = issuer
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def send_audited(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            if message["type"] == "http.response.start" and message["status"] == 200:
                refused = not await self._written(scope)
                if refused:
                    text = "Who was assessed cannot be written down now, and has to be (MAA_AUDIT)."
                    fault = Fault("transient", text)
                    error = RequestError(503, fault, retry_after=_RETRY_AFTER_SECONDS)
                    await (await request_error(None, error))(scope, receive, send)
                    return
            await send(message)

        await self._app(scope, receive, send_audited)

    async def _written(self, scope: Scope) -> bool:
        """Whether the answer may leave."""
        tally = TALLY.get()
        if tally is None or not tally.patients:
            return True
        happened = self._happened(scope)
        try:
            await run_in_threadpool(self._put, happened, tally.patients)
        except SpoolError as error:
            fields = {
                "request": happened.request_id,
                "patients": len(tally.patients),
                "why": str(error),
                "answered": not self._required,
            }
            tell(logging.ERROR, "audit is not written", fields)
            return not self._required
        return True

    def _put(self, happened: Happened, patients: tuple[Patient, ...]) -> None:
        self._spool.put(events_of(happened, patients))

    def _happened(self, scope: Scope) -> Happened:
        query = scope["query_string"].decode("latin-1")
        server = (scope.get("server") or ("unknown",))[0]
        return Happened(
            request_id=scope["request_id"],
            method=scope["method"],
            address=scope["path"] + (f"?{query}" if query else ""),
            client_address=(scope.get("client") or ("unknown",))[0],
            server=self._server or server,
            caller=scope.get("asked_by"),
            issuer=self._issuer,
        )
