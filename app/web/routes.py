"""The addresses of the page: itself, its files, an explanation of each definition, SMART's."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.asking import PARAMETERS
from app.fhir.outcome import Fault, RequestError
from app.papers import PUBLISHED, RESPONSES
from app.settings import Settings
from app.web.explanations import explained, transparency
from app.web.stories import STORIES

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_FILES: Mapping[str, tuple[bytes, str]] = {
    file.relative_to(_HERE).as_posix(): (file.read_bytes(), _TYPES[file.suffix])
    for file in sorted(_HERE.rglob("*"))
    if file.suffix in _TYPES
}
"""Everything a browser may load, by its name: what is not in this table is not served."""
_VERSION = hashlib.sha256(repr(sorted(_FILES.items())).encode()).hexdigest()[:16]
_FOR_A_YEAR = "public, max-age=31536000, immutable"
_ASKED_AGAIN = "no-cache"
_WORDS = {
    "redCellPolicy": {
        "both": "hemoglobin and reticulocytes",
        "reticulocytes-when-transfused": "reticulocytes when transfused",
        "reticulocytes-only": "reticulocytes only",
    },
    "transfusionHistory": {"unknown": "may be incomplete", "complete": "are all that were given"},
    "when": {
        "newest": "by the newest counts",
        "first": "on the first day it was met",
        "changes": "on each day the answer changed",
    },
    "exclusions": {"tell": "are told beside the answer", "apply": "decide: not eligible"},
}
"""What a visitor reads for the choices of a parameter; which there are, its row says."""
_FHIR_CLIENT = "vendor/fhir-client-2.6.3.pure.min.js"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home(request: Request) -> Response:
    """The page: counts in, the verdict and its reasons out, by the public operations."""
    return _page(request, _home())


@router.get("/explain/{id}")
async def explain(request: Request, id: str) -> Response:  # noqa: A002
    """A definition in words: its rules and their source, and what counts cannot tell."""
    text = explained(id)
    if text is None:
        raise RequestError(404, Fault("not-found", "No definition has this id."))
    return _page(request, text)


@router.get("/transparency")
async def read_transparency(request: Request) -> Response:
    """For whoever deploys it: use, inputs, logic, tests and limits of each definition."""
    return _page(request, transparency())


@router.get("/web/{version}/{name:path}")
async def file(version: str, name: str) -> Response:
    """A file of the page; of this version it may be kept, since another has another address."""
    if name not in _FILES:
        raise RequestError(404, Fault("not-found", "The page has no file of this name."))
    content, type_ = _FILES[name]
    kept = _FOR_A_YEAR if version == _VERSION else _ASKED_AGAIN
    return Response(content, headers={"Cache-Control": kept}, media_type=type_)


@router.get("/launch")
async def launch(request: Request) -> Response:
    """Where an EHR launches the page, or a clinician begins alone (SMART App Launch 2.2)."""
    settings = _launched(request)
    return _page(request, _smart((_HERE / "launch.html").read_text("utf-8"), settings), settings)


@router.get("/smart")
async def smart(request: Request) -> Response:
    """Where the EHR sends the clinician back: the page, which then reads the chart itself."""
    settings = _launched(request)
    return _page(request, _smart(_home(), settings), settings)


def _launched(request: Request) -> Settings:
    """The settings; RequestError 404 where they name no EHR."""
    settings: Settings = request.app.state.settings
    if not settings.smart_issuers:
        text = "No EHR may launch the page here: MAA_SMART_ISSUERS."
        raise RequestError(404, Fault("not-found", text))
    return settings


def _smart(text: str, settings: Settings) -> str:
    """A page with the client of SMART App Launch, and what it may ask of whom."""
    told = {
        "issuers": [issuer.rstrip("/") for issuer in settings.smart_issuers],
        "clientId": settings.smart_client_id,
        "scope": settings.smart_scope,
        "tokenHere": settings.authenticates,
    }
    added = (
        f'<meta name="smart" content="{html.escape(json.dumps(told))}">\n'
        f'<script defer src="/web/VERSION/{_FHIR_CLIENT}"></script>\n'
        '<script type="module" src="/web/VERSION/smart.js"></script>\n</head>'
    )
    return text.replace("</head>", added, 1)


def _policy(issuers: Sequence[str]) -> str:
    """Nothing inline, nothing from elsewhere; of other origins only the EHRs that may launch."""
    origins = "".join(f" {url.scheme}://{url.netloc}" for url in map(urlsplit, issuers))
    embedding = f"'self'{origins}" if origins else "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{origins}; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {embedding}"
    )


def _page(request: Request, text: str, settings: Settings | None = None) -> Response:
    """A page below the prefix it is called by, or 304 to the browser that has it.

    With `settings` it is one that an EHR launches, and may ask that EHR.
    """
    prefix = html.escape(request.scope.get("root_path", ""))
    text = text.replace("/web/VERSION/", f"/web/{_VERSION}/")
    for attribute in ("href", "src"):
        text = text.replace(f'{attribute}="/', f'{attribute}="{prefix}/')
    content = text.encode()
    # Weak: gzip changes the bytes, not what they say.
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Content-Security-Policy": _policy(settings.smart_issuers if settings else ()),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": _ASKED_AGAIN,
        "ETag": etag,
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="text/html; charset=utf-8")


@cache
def _home() -> str:
    text = (_HERE / "page.html").read_text("utf-8")
    for mark, filled in {
        "<!--eligibility-->": _choices("eligibility", [(p.id, p.title) for p in PUBLISHED]),
        "<!--response-->": _choices("response", [(p.id, p.title) for p in RESPONSES]),
        "<!--stories-->": "".join(
            f'<li><button type="button" data-story="{name}" data-asks="{story.question}">'
            f"{html.escape(story.label)}</button></li>"
            for name, story in STORIES.items()
        ),
        **{f"<!--{name}-->": _options(name) for name in _WORDS},
    }.items():
        text = text.replace(mark, filled)
    return text


def _choices(question: str, papers: Sequence[tuple[str, str]]) -> str:
    """A checkbox for each definition, the first checked."""
    return "".join(
        f'<label><input type="checkbox" name="{question}" value="{paper}"'
        f"{'' if index else ' checked'}> <span>{html.escape(title)}</span> "
        f'<a href="/explain/{paper}">what it says</a></label>'
        for index, (paper, title) in enumerate(papers)
    )


def _options(name: str) -> str:
    """An option for each choice of a parameter, its default chosen."""
    (asked,) = (one for one in PARAMETERS if one.name == name)
    return "".join(
        f'<option value="{choice}"{" selected" if choice == asked.default else ""}>'
        f"{html.escape(_WORDS[name][choice])}</option>"
        for choice in sorted(asked.choices, key=lambda choice: choice != asked.default)
    )
