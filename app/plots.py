"""`$plot` as a function: bytes and parameters in, a picture out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from importlib.util import find_spec
from types import MappingProxyType

from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE, EVALUATE_MEASURE, PLOT, WINDOW_DAYS
from app.domain.effort import tell
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.operations import Judged, judged, plotted
from app.requests import read_request
from app.writing.picture import draw
from app.writing.swimmers import MOST_PATIENTS, draw_cohort

_FONTS = "fontpkg_open_sans"
# A screen of many pixels shows what a printer would.
_ZOOM = 2


def plot(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
) -> str:
    """`$plot`: a Bundle or Parameters in, one patient's counts against one definition as SVG out.

    The response is drawn where `operation` says so, or a start of treatment is given; else
    eligibility. A `measure` is the course of every patient after treatment. Raises RequestError
    with the HTTP status and its faults.
    """
    question, data = read_request(body, query, PLOT, window_days, code_map)
    return _DRAWN[question.operation](judged(question, data, normal_ranges=True))


def _one(found: Judged) -> str:
    if len(found.assessments) != 1:
        text = (
            "One patient by one definition is drawn: name the patient with 'subject', and one "
            "definition with 'criteria'."
        )
        raise RequestError(422, Fault("required", text))
    plot = plotted(found, found.assessments[0], found.reading.courses[0])
    return draw(plot, found.question.width)


def _cohort(found: Judged) -> str:
    responses = found.assessments
    if len({one.paper for one in responses}) > 1:
        text = "A cohort is drawn by one definition: 'criteria'."
        raise RequestError(422, Fault("required", text))
    if len(responses) > MOST_PATIENTS:
        text = (
            f"More than {MOST_PATIENTS} patients have no room in a picture: send fewer, or ask "
            "$evaluate-measure for the numbers."
        )
        raise RequestError(422, Fault("too-costly", text))
    courses = {course.patient: course for course in found.reading.courses}
    swimmers = [(one, courses[one.patient]) for one in responses]
    return draw_cohort(swimmers, found.question.as_of, found.question.width)


_DRAWN: Mapping[str, Callable[[Judged], str]] = MappingProxyType(
    {
        ASSESS_ELIGIBILITY: _one,
        ASSESS_RESPONSE: _one,
        EVALUATE_MEASURE: _cohort,
    }
)


def can_write_png() -> bool:
    """Whether the extra for PNG is installed."""
    return all(find_spec(name) for name in ("resvg_py", _FONTS))


def png(picture: str) -> bytes:
    """The picture in pixels; its letters come with the extra, so that it looks alike everywhere."""
    import resvg_py  # noqa: PLC0415 an optional extra

    fonts = resources.files(_FONTS) / "files"
    with resources.as_file(fonts) as folder:
        pixels: bytes = resvg_py.svg_to_bytes(
            svg_string=picture,
            zoom=_ZOOM,
            skip_system_fonts=True,
            font_dirs=[str(folder)],
            sans_serif_family="Open Sans",
        )
    tell(len(pixels))
    return pixels
