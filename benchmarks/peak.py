"""How much memory one large Bundle takes: prints bytes of the body, and resident before and peak.

`python -m benchmarks.peak` needs Linux.
"""

from __future__ import annotations

import json
from pathlib import Path

from app.operations import eligibility
from benchmarks.generate import bundle


def _resident(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(line)[1].split()[0]) * 1024


def main() -> None:
    """Answer small Bundles first, so that what is kept for good is there before."""
    for seed in range(200):
        eligibility(bundle(seed=seed))
    body = bundle(observations=10_000, patients=250)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS:")
    eligibility(body)
    told = {"body": len(body), "before": before, "peak": _resident("VmHWM:")}
    print(json.dumps(told))  # noqa: T201 its answer


if __name__ == "__main__":
    main()
