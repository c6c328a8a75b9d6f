"""How often one caller may ask, and that he leaves room for others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.rates import name_of
from app.main import create_app
from app.settings import Settings
from app.turns import FullError, Turns
from tests.conftest import FHIR_JSON, OPERATION
from tests.test_ehr import ELIGIBILITY, calling, ordinary, service, serving
from tests.test_tokens import DATA, asking

HEADERS = {"content-type": FHIR_JSON}


def test_a_caller_who_asks_too_often_is_told_when_to_come_again(outcome_of: Any) -> None:
    with asking(rate_limit="3/minute") as one:
        eager, other = one.token(client_id="eager"), one.token(client_id="other")
        assert [one.post(eager).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        refused = one.post(eager)
        assert outcome_of(refused)["issue"][0]["code"] == "throttled"
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        # Neither another caller nor what is open to all.
        assert one.post(other).status_code == 200
        assert one.client.get("/fhir/metadata").status_code == 200
        # Two people who use one program are two callers.
        people = [one.token(client_id="app", sub=name) for name in ("a", "b")]
        assert {one.post(token).status_code for token in people * 3} == {200}


def test_whoever_guesses_tokens_may_guess_no_oftener_than_others_ask() -> None:
    with asking(rate_limit="3/minute") as one:
        guesses = [one.post(one.token(client_id=f"c{n}", aud="other")) for n in range(5)]
        assert [guess.status_code for guess in guesses] == [401, 401, 401, 429, 429]
        assert one.post(one.token()).status_code == 200


def test_where_nobody_is_asked_who_he_is_each_address_is_a_caller() -> None:
    app = create_app(Settings(rate_limit="2/minute"))

    async def ask(address: str, **headers: str) -> list[int]:
        transport = httpx.ASGITransport(app, client=(address, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answers = [
                await http.post(OPERATION, json=DATA, headers=HEADERS | headers) for _ in range(3)
            ]
        return [one.status_code for one in answers]

    async def both() -> list[list[int]]:
        # Nobody is believed who says that he asks for another.
        return [await ask("10.0.0.1"), await ask("10.0.0.2", **{"x-forwarded-for": "10.0.0.3"})]

    assert asyncio.run(both()) == [[200, 200, 429], [200, 200, 429]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "unix", False),
    ],
)
def test_who_one_caller_is_by_his_address(one: str, other: str, same: bool) -> None:
    assert (name_of(one) == name_of(other)) is same


# Turns


def waiting(turns: Turns, *callers: str | None) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(turns.acquire(caller)) for caller in callers]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_caller_leaves_a_place_and_half_of_the_room_to_others() -> None:
    async def told() -> None:
        turns = Turns(places=3, waiting=4)
        first = waiting(turns, "a", "a", "a", "a")
        await settled()
        assert [task.done() for task in first] == [True, True, False, False]
        with pytest.raises(FullError):
            await turns.acquire("a")
        # Another comes before those who wait, for there is a place for him.
        await asyncio.wait_for(turns.acquire("b"), 1)
        late = waiting(turns, "b", "b")
        await settled()
        with pytest.raises(FullError):
            await turns.acquire("c")
        # He who has fewer places comes first, though he came later.
        turns.release("a")
        turns.release("b")
        await settled()
        assert late[0].done()
        for task in (*first, *late):
            task.cancel()

    asyncio.run(told())


def test_who_goes_as_his_turn_comes_gives_it_to_the_next() -> None:
    async def told() -> None:
        turns = Turns(places=1, waiting=5)
        await turns.acquire(None)
        first, second = waiting(turns, None, "a")
        await settled()
        turns.release(None)
        first.cancel()
        await settled()
        assert first.cancelled()
        assert second.done()

    asyncio.run(told())


def test_callers_without_a_name_come_in_their_order_and_take_all_places() -> None:
    async def told() -> None:
        turns = Turns(places=2, waiting=2)
        tasks = waiting(turns, None, None, None, None)
        await settled()
        assert [task.done() for task in tasks] == [True, True, False, False]
        with pytest.raises(FullError):
            await turns.acquire(None)
        turns.release(None)
        await settled()
        assert [task.done() for task in tasks] == [True, True, True, False]
        tasks[3].cancel()

    asyncio.run(told())


@given(st.lists(st.tuples(st.sampled_from(["ask", "end", "go"]), st.integers(0, 20)), max_size=60))
def test_no_place_is_lost_or_given_twice_whatever_happens(steps: list[tuple[str, int]]) -> None:
    async def told() -> None:
        turns, inside = Turns(places=3, waiting=5), Counter[str]()
        visits: list[tuple[asyncio.Task[None], asyncio.Event]] = []

        async def visit(caller: str | None, ends: asyncio.Event) -> None:
            try:
                await turns.acquire(caller)
            except FullError:
                return
            inside[str(caller)] += 1
            assert inside.total() <= 3
            assert all(inside[name] <= 2 for name in "abc")
            try:
                await ends.wait()
            finally:
                inside[str(caller)] -= 1
                turns.release(caller)

        for step, number in steps:
            if step == "ask":
                ends = asyncio.Event()
                caller = [None, "a", "b", "c"][number % 4]
                visits.append((asyncio.ensure_future(visit(caller, ends)), ends))
            elif visits:
                task, ends = visits[number % len(visits)]
                # He may go just as his turn comes.
                task.cancel() if step == "go" else ends.set()
            if number % 3:
                await settled()
        for _, ends in visits:
            ends.set()
        done = await asyncio.gather(*(task for task, _ in visits), return_exceptions=True)
        assert not [one for one in done if isinstance(one, AssertionError)]
        assert (turns._free, turns._queue, +turns._taken) == (3, [], Counter())

    asyncio.run(told())


# What is fetched


def test_a_place_is_not_lost_on_one_who_went_while_it_came_free() -> None:
    async def went() -> list[bool]:
        turns = Turns(1, 8)
        await turns.acquire(None)
        first, second = waiting(turns, None, None)
        await settled()
        # He is told only when the loop comes round, and the place comes free before.
        first.cancel()
        turns.release(None)
        await settled()
        return [first.cancelled(), second.done()]

    assert asyncio.run(went()) == [True, True]


def test_what_is_fetched_takes_the_room_of_large_bodies() -> None:
    with serving(ordinary) as stub:
        with service(stub, max_bytes_at_once=1_000) as client:
            refused = client.get(ELIGIBILITY)
            assert refused.status_code == 503
            assert "MAA_MAX_BYTES_AT_ONCE" in refused.text
            # All of it was given back.
            assert set(client.app.state.room._left.values()) == {1_000}
        with service(stub) as client:
            assert client.get(ELIGIBILITY).status_code == 200
            assert len(set(client.app.state.room._left.values())) == 1


def test_a_limit_that_is_none_is_refused() -> None:
    for text in ("600", "0/minute", "many/minute", "6/fortnight"):
        with pytest.raises(ValueError, match="pattern"):
            Settings(rate_limit=text)
    with calling(Settings(rate_limit="600/minute")) as client:
        assert client.get("/health/live").status_code == 200
