"""The floor of HTTP: an ASGI application that reads the body and answers a constant of 5 kB.

`uvicorn benchmarks.bare:app` serves it.
"""

from __future__ import annotations

from typing import Any

_CONSTANT = b"x" * 5000
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5000")],
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers every request alike."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send({"type": "http.response.body", "body": _CONSTANT})
