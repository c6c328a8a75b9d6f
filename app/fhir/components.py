"""The codes that assessments have components under besides criteria, and their displays."""

from __future__ import annotations

from app.domain.paper import LINEAGE_RESPONSES

# Every response carries these codes; what a definition does not judge is not applicable.
RESPONSE_TRUTHS = {
    **LINEAGE_RESPONSES,
    "transfusion-independence": "Transfusion independence gained",
    "primary-end-point": "Primary end point",
    "complete": "Complete response",
    "kept-two-years": "Kept for two years",
    "relapse": "Relapse",
}
RESPONSE_MOMENTS = {
    "response-at-3-months": "Response at 3 months",
    "response-at-6-months": "Response at 6 months",
    "current-response": "Current response",
    "best-response": "Best response",
}
RESPONSE_COURSE = {
    "time-to-response": "Time to response",
    "first-loss-date": "First loss of response, date",
    "daclizumab-exposure": "Daclizumab as given",
}
RESPONSE_COMPONENTS = {
    **RESPONSE_TRUTHS,
    **RESPONSE_MOMENTS,
    **{f"{code}-date": f"{title}, date" for code, title in RESPONSE_MOMENTS.items()},
    **RESPONSE_COURSE,
}
"""Every criterion code of a response assessment, and its display."""
RESPONSE_TABLE = (
    *RESPONSE_TRUTHS,
    *(code for moment in RESPONSE_MOMENTS for code in (moment, f"{moment}-date")),
    "first-loss-date",
    "other-cause",
)
"""The codes of truths, verdicts and days: what a table has a column for."""
LIFE_COMPONENTS = {
    "first-met": "First day met",
    "last-met": "Last day met",
    "episodes": "Episodes met",
    "longest-time-met": "Longest time met",
}
"""What is said of eligibility over a life."""
ABSENCES = {"none": "On no day judged", "unknown": "Not known: it may have been on a day left open"}
"""Why there is no day on which a definition was met."""
CHART_COMPONENTS = {
    "other-cause": "Other cause in the chart",
    "no-recorded-exclusion": "Nothing recorded that the definition excludes",
    "age": "Age",
    "weight": "Weight",
}
"""What is told of the chart and the person, beside the criteria by counts."""
