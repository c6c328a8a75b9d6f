"""A process that makes evaluations, one after the other, within their bounds."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import signal
import sys
from typing import Any, BinaryIO

from app.domain.effort import TooCostlyError, limited
from app.domain.tally import TALLY, Tally
from app.evaluation import STARVED, BugError, Done, Task, too_much_memory
from app.fhir.kept import forget
from app.fhir.outcome import Fault, RequestError
from app.logs import told_of

# What was taken and not given back makes the process end: the next one begins small.
_KEPT_BYTES = 32 * 1024 * 1024
# What libraries in C raise where they got no memory, and say so or forget to.
_NO_MEMORY = (MemoryError, SystemError)


def work(memory_bytes: int, grace_seconds: float) -> None:
    """Does every task that comes on the standard input, until it ends."""
    tasks, answers = sys.stdin.buffer, sys.stdout.buffer
    # Whatever prints must not print into an answer.
    sys.stdout = sys.stderr
    _, most_allowed = resource.getrlimit(resource.RLIMIT_DATA)
    if most_allowed != resource.RLIM_INFINITY:
        memory_bytes = min(memory_bytes, most_allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    gc.collect()
    gc.freeze()
    most = _resident_bytes() + _KEPT_BYTES
    try:
        while _one(tasks, answers, grace_seconds, most):
            pass
    except BaseException as error:
        # None was left even to say that there is none; a library in Rust calls that a panic.
        if isinstance(error, _NO_MEMORY) or type(error).__name__ == "PanicException":
            os._exit(STARVED)
        raise


def _one(tasks: BinaryIO, answers: BinaryIO, grace_seconds: float, most_bytes: int) -> bool:
    """Does one task; False where it is the last."""
    found = error = None
    starved = False
    tally = Tally()
    TALLY.set(tally)
    try:
        found, error = _answer(pickle.load(tasks), grace_seconds)  # noqa: S301 our own service's
    except EOFError:
        return False
    except _NO_MEMORY:
        error, starved = too_much_memory(), True
    ends = starved or _resident_bytes() > most_bytes
    pickle.dump(Done(found, error, ends, tally, starved), answers, pickle.HIGHEST_PROTOCOL)
    answers.flush()
    return not ends


def _answer(task: Task, grace_seconds: float) -> tuple[Any, Exception | None]:
    bounds = task.bounds
    # Should the service die, nobody else ends this.
    signal.setitimer(signal.ITIMER_REAL, bounds.seconds + grace_seconds)
    try:
        with limited(bounds.steps, bounds.answer_bytes):
            return task.call(), None
    except RequestError as error:
        return None, error
    except TooCostlyError as error:
        return None, RequestError(413, Fault("too-costly", str(error)))
    except _NO_MEMORY:
        raise
    except Exception as error:  # noqa: BLE001 the message may hold patient data
        return None, BugError(told_of(error))
    finally:
        forget()
        signal.setitimer(signal.ITIMER_REAL, 0)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Not Linux: the most that it has ever been does as well.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
