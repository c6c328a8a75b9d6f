"""The codes that every response assessment has components under, and their displays."""

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
