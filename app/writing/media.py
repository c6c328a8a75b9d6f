"""The picture as a part of an assessment: contained in it, and shown by its narrative."""

from __future__ import annotations

from base64 import b64encode

from app.domain.effort import tell
from app.fhir.json import Json
from app.writing.narrative import xhtml_text

_PICTURE = "picture"


def with_picture(observation: Json, picture: str, told: str) -> Json:
    """The assessment with its picture as SVG, which `told` is in words.

    It is no source: `derivedFrom` names what an assessment rests on, so the picture refers to
    what contains it, and the narrative to the picture.
    """
    tell(2 * len(picture))
    media = {
        "resourceType": "Media",
        "id": _PICTURE,
        "partOf": [{"reference": "#"}],
        "status": "completed",
        "subject": observation["subject"],
        "content": {
            "contentType": "image/svg+xml",
            "data": b64encode(picture.encode()).decode(),
            "title": told,
        },
    }
    text = observation["text"]
    image = f'<p><img src="#{_PICTURE}" alt="{xhtml_text(told)}"/></p></div>'
    div = text["div"].removesuffix("</div>") + image
    written: Json = {}
    for name, value in observation.items():
        written[name] = value
        if name == "text":
            written |= {"text": {**text, "div": div}, "contained": [media]}
    return written
