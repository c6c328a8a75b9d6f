"""Evaluations in processes of their own: few at a time, each bounded in time, steps and memory.

A thread cannot be stopped, and while it works the others wait for the interpreter.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from app.domain.tally import TALLY, Tally
from app.fhir.outcome import Fault, RequestError
from app.turns import FullError, Turns

T = TypeVar("T")
_RETRY_AFTER_SECONDS = 2
# A process whose service is gone ends itself so much later than it would have been ended.
_GRACE_SECONDS = 5
STARVED = 75
"""What a process ends with that had no memory left even to say so."""
# How a process ends that somebody else ended: the kernel for want of memory, or the alarm.
_ENDED_BY_OTHERS = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGALRM}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one evaluation may take, and how many are made."""

    seconds: float
    steps: int
    """See `app.domain.effort`."""
    answer_bytes: int
    memory_bytes: int
    at_once: int
    waiting: int
    """More than these are refused, not queued."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is to call, and its bounds."""

    call: Callable[[], Any]
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task: what was found, or the error."""

    found: Any
    error: Exception | None
    ends: bool
    """Whether the process takes no further task."""
    tally: Tally | None = None
    starved: bool = False
    """Whether there was not memory enough."""


class BugError(Exception):
    """A fault of ours in another process: the type and the place of it, never its message."""


class Evaluator:
    """The processes, and whoever waits for one."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._turns = Turns(bounds.at_once, bounds.waiting)
        self._threads = anyio.CapacityLimiter(2 * bounds.at_once)
        self._processes: set[_Process] = set()
        self._closed = False
        # Who forgets to close it leaves no process behind.
        weakref.finalize(self, _end_all, self._processes)

    async def run(self, request: Request, call: Callable[[], T]) -> T:
        """What `call` returns, called in another process for as long as the caller waits.

        RequestError 413 where it takes too many steps or too much memory, 503 where it takes too
        long or too many wait already; ClientDisconnect as soon as the caller is gone.
        """
        caller = request.scope.get("turn_of")
        working = asyncio.ensure_future(self._in_turn(call, caller))
        leaving = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise ClientDisconnect
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    def start(self) -> None:
        """Have a process ready for the next task, where the system has room for one."""
        if not self._closed:
            with suppress(OSError):
                self._processes.add(_Process(self._bounds.memory_bytes))

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        _end_all(self._processes)

    async def _in_turn(self, call: Callable[[], T], caller: str | None) -> T:
        try:
            with anyio.fail_after(self._bounds.seconds):
                await self._turns.acquire(caller)
        except FullError:
            raise _busy("Too many evaluations wait already.") from None
        except TimeoutError:
            raise _busy("Other evaluations took all the time there was to wait.") from None
        try:
            process = self._idle()
            # What earlier tasks left in a process must not refuse a caller what there is room for.
            again = process.used
            done = await self._by(process, call)
            if done.starved and again:
                done = await self._by(self._idle(fresh=True), call)
        finally:
            self._turns.release(caller)
        if (tally := TALLY.get()) and done.tally:
            tally.take(done.tally)
        if done.error:
            raise done.error
        found: T = done.found
        return found

    def _idle(self, fresh: bool = False) -> _Process:
        """A process that does nothing; a `fresh` one has done nothing yet.

        RequestError 503 where the system has no room for one.
        """
        for dead in [one for one in self._processes if one.idle and one.has_ended]:
            # The kernel ends what takes memory, whether or not it has a task.
            self._processes.discard(dead)
            dead.end()
        idle = (one for one in self._processes if one.idle and not (fresh and one.used))
        process = next(idle, None)
        if process is None:
            try:
                process = _Process(self._bounds.memory_bytes)
            except OSError:
                raise _busy("There is no room for one more process now.") from None
            self._processes.add(process)
        process.idle = False
        return process

    async def _by(self, process: _Process, call: Callable[[], T]) -> Done:
        process.used = ends = True
        try:
            with anyio.fail_after(self._bounds.seconds):
                done = await anyio.to_thread.run_sync(
                    process.do,
                    Task(call, self._bounds),
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
            ends = done.ends
        except TimeoutError:
            raise _busy(
                "The evaluation took too long (MAA_EVALUATION_SECONDS): send fewer patients or "
                "results at a time."
            ) from None
        finally:
            process.idle = not ends
            if ends:
                process.end()
                self._processes.discard(process)
                # Ready when the next task comes: it need not wait for the modules.
                self.start()
        return done


def too_much_memory() -> RequestError:
    """Refuses what cannot be evaluated within the memory there is for it."""
    text = (
        "The evaluation takes more memory than it may (MAA_EVALUATION_MEMORY_BYTES): send fewer "
        "patients or results at a time."
    )
    return RequestError(413, Fault("too-costly", text))


def _busy(text: str) -> RequestError:
    return RequestError(503, Fault("throttled", text), retry_after=_RETRY_AFTER_SECONDS)


async def _gone(request: Request) -> None:
    """Returns when the caller has gone, whose body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Process:
    """One process, which calls what it is sent."""

    def __init__(self, memory_bytes: int) -> None:
        home = str(Path(__file__).parent.parent)
        code = (
            f"import sys; sys.path.insert(0, {home!r}); "
            f"from {__package__}.worker import work; work({memory_bytes}, {_GRACE_SECONDS})"
        )
        # Tokens and keys are nothing to a process that only reads and judges.
        environment = {n: text for n, text in os.environ.items() if not n.startswith("MAA_")}
        self._child = subprocess.Popen(  # noqa: S603 our own interpreter and code
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # what interrupts the service lets it finish
        )
        self.idle = True
        self.used = False

    def do(self, task: Task) -> Done:
        """Blocks until the task is done."""
        assert self._child.stdin  # noqa: S101 both are pipes
        assert self._child.stdout  # noqa: S101
        try:
            # It answers before it has read all of what it has no room for.
            with suppress(BrokenPipeError):
                # Straight into the pipe: a body is not copied once more.
                pickle.dump(task, self._child.stdin, pickle.HIGHEST_PROTOCOL)
                self._child.stdin.flush()
            # Written by our own code, and by nobody else.
            done: Done = pickle.load(self._child.stdout)  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError):
            return _ended_with(self._child.wait())
        return done

    @property
    def has_ended(self) -> bool:
        """Whether it takes no task any more."""
        return self._child.poll() is not None

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            # What was not written yet cannot be any more.
            with suppress(OSError):
                if pipe:
                    pipe.close()


def _ended_with(status: int) -> Done:
    """What came of a task whose process ended before it had answered."""
    if status in _ENDED_BY_OTHERS:
        busy = _busy("The process that made the evaluation was ended: there was too much at once.")
        return Done(None, busy, ends=True)
    if status == STARVED or status < 0:
        # Not every library survives that it is given no memory.
        return Done(None, too_much_memory(), ends=True, starved=True)
    return Done(None, BugError(f"a process that ended with {status}"), ends=True)


def _end_all(processes: set[_Process]) -> None:
    for process in processes:
        process.end()
    processes.clear()
