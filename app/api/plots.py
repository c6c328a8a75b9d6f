"""The picture over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import Request
from starlette.responses import Response

from app import plots
from app.api.answering import made
from app.api.strict import asks_strict, check_strictly, require_checkable
from app.body import Body, body_of
from app.fhir.outcome import Fault, RequestError

SVG, PNG = "image/svg+xml", "image/png"
# Whoever opens the picture by itself: it needs nothing, and gets nothing.
_POLICY = "default-src 'none'"

Judge = Callable[[bytes], str]


async def plotted(request: Request) -> Response:
    """A Bundle (or Parameters) in, the picture out as the caller accepts it."""
    kind = picture_type(request)
    strict = asks_strict(request)
    if strict:
        # Before the body is read.
        require_checkable(request)
    state = request.app.state
    judge = partial(
        plots.plot,
        query=request.query_params.multi_items(),
        window_days=state.settings.window_days,
        code_map=state.code_map,
    )
    async with body_of(request) as body:
        content = await made(request, partial(_content, judge, body, kind), body, kind == PNG)
    headers = {"Vary": "Accept", "Content-Security-Policy": _POLICY}
    if strict:
        headers["Preference-Applied"] = "handling=strict"
    return Response(content, headers=headers, media_type=kind)


def _content(judge: Judge, body: Body, kind: str, strict: bool) -> bytes:
    plain = body.plain()
    if strict:
        check_strictly(plain)
    picture = judge(plain)
    return plots.png(picture) if kind == PNG else picture.encode()


def picture_type(request: Request) -> str:
    """The media type to draw in; RequestError 406 where the caller takes none that is drawn."""
    asked = request.query_params.get("_format", "").replace(" ", "+")
    accept = {"svg": SVG, "png": PNG}.get(asked, asked) or ",".join(
        request.headers.getlist("accept")
    )
    taken = {part.partition(";")[0].strip().lower() for part in accept.split(",")} - {""}
    if not taken or taken & {SVG, "image/*", "*/*"}:
        return SVG
    if PNG not in taken:
        text = f"The picture is {SVG}, or {PNG} where that is installed."
        raise RequestError(406, Fault("not-supported", text))
    if not plots.can_write_png():
        text = f"{PNG} needs the extra: pip install 'maa-assess[png]'. {SVG} needs none."
        raise RequestError(406, Fault("not-supported", text))
    return PNG
