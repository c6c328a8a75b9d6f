"""`$plot` as a function: bytes and parameters in, a picture out."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from importlib.util import find_spec

from app.asking import Request, read_request
from app.domain.effort import tell
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.operations import judge_eligibility, judge_responses
from app.writing.picture import draw
from app.writing.plotted import eligibility_plot, response_plot
from app.writing.sheet import DEFAULT_WIDTH, WIDTHS
from app.writing.swimmers import MOST_PATIENTS, draw_cohort

PLOTTED = ("eligibility", "response", "measure")
"""What can be drawn: of one patient the first two, of a cohort the third."""
_FONTS = "fontpkg_open_sans"
# A screen of many pixels shows what a printer would.
_ZOOM = 2


def plot(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    code_map: CodeMap | None = None,
) -> str:
    """`$plot`: a Bundle or Parameters in, one patient's counts against one definition as SVG out.

    The response is drawn where `operation` says so, or a start of treatment is given; else
    eligibility. A `measure` is the course of every patient after treatment. Raises RequestError
    with the HTTP status and its faults.
    """
    query = list(query)
    own = {name: text for name, text in query if name in {"operation", "width"}}
    rest = [(name, text) for name, text in query if name not in own]
    width = _width(own.get("width"))
    operation = own.get("operation")
    if operation not in {None, *PLOTTED}:
        place = "Parameters.parameter.where(name='operation')"
        text = f"'operation' is one of {', '.join(PLOTTED)}."
        raise RequestError(400, Fault("value", text, place))
    request = read_request(body, rest, code_map=code_map)
    if operation == "measure":
        return _cohort(request, default_window_days, width)
    started = request.treatment_start is not None
    if operation == "response" or (operation is None and started):
        reading, responses = judge_responses(request, default_window_days)
        _one_picture(len(responses))
        course = reading.courses[0]
        remarks = [*reading.remarks, *course.remarks]
        return draw(response_plot(responses[0], course, remarks, request.as_of), width)
    reading, assessments = judge_eligibility(request, default_window_days, normal_ranges=True)
    _one_picture(len(assessments))
    course = reading.courses[0]
    remarks = [*reading.remarks, *course.remarks]
    return draw(eligibility_plot(assessments[0], course, remarks, request.as_of), width)


def _cohort(request: Request, default_window_days: int, width: int) -> str:
    reading, responses = judge_responses(request, default_window_days)
    if len({found.paper for found in responses}) > 1:
        text = "A cohort is drawn by one definition: 'criteria'."
        raise RequestError(422, Fault("required", text))
    if len(responses) > MOST_PATIENTS:
        text = (
            f"More than {MOST_PATIENTS} patients have no room in a picture: send fewer, or ask "
            "$evaluate-measure for the numbers."
        )
        raise RequestError(422, Fault("too-costly", text))
    courses = {course.patient: course for course in reading.courses}
    swimmers = [(found, courses[found.patient]) for found in responses]
    return draw_cohort(swimmers, request.as_of, width)


def _width(text: str | None) -> int:
    least, most = WIDTHS
    if text is None:
        return DEFAULT_WIDTH
    if text.isascii() and text.isdigit() and len(text) < 6 and least <= int(text) <= most:
        return int(text)
    place = "Parameters.parameter.where(name='width')"
    told = f"'width' is a number of pixels from {least} to {most}."
    raise RequestError(400, Fault("value", told, place))


def _one_picture(assessments: int) -> None:
    if assessments != 1:
        text = (
            "One patient by one definition is drawn: name the patient with 'subject', and one "
            "definition with 'criteria'."
        )
        raise RequestError(422, Fault("required", text))


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
