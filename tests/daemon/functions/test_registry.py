"""Functions: defined, replaced, deleted and called, and nothing of a call is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.functions.desk import Desk, asked

from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.functions import body as bodies
from sessiond.daemon.functions import registry as functions
from sessiond.daemon.functions.definition import Definition
from sessiond.daemon.server import function_proto
from sessiond.daemon.sessions.ground import Ground
from sessiond.daemon.sessions.statuses import Timings
from sessiond.v1.config_pb2 import Config
from sessiond.v1.errors import FunctionNotFound, SessionFatal, SessionUnavailable

RAW = Config(prompt_format="raw")


async def test_an_unknown_function(desk: Desk) -> None:
    for ask in (desk.chunks("x"), desk.mapped(["x"]), desk.functions.delete("f")):
        with pytest.raises(FunctionNotFound) as caught:
            await ask
        assert caught.value.name == "f"


async def test_the_body_is_computed_when_it_is_defined_and_an_equal_definition_is_no_work(desk: Desk) -> None:
    function = await desk.define()
    told = await desk.tally()
    assert told.computed_tokens == function.body_tokens > 20
    assert await desk.define() is function
    assert await desk.tally() == told


async def test_another_definition_takes_the_place_of_the_one_before(desk: Desk) -> None:
    first = await desk.define(max_tokens=3)
    [branch] = await desk.branches()
    second = await desk.define(max_tokens=4)
    assert desk.functions.all() == [second] != [first]
    assert branch not in await desk.branches()
    assert len(await desk.branches()) == 1
    assert (await desk.tally()).computed_tokens == second.body_tokens, (
        "what it has in common is not computed again"
    )
    assert (await desk.chunks("x"))[-1].summary.generated_tokens <= 4  # type: ignore[union-attr]


async def test_one_that_cannot_be_leaves_the_one_before(desk: Desk) -> None:
    first = await desk.define(max_tokens=3)
    value = await desk.value("x")
    with pytest.raises(Exception, match="grammar"):
        await desk.define(grammar="root ::= (")
    assert desk.functions.all() == [first]
    assert await desk.value("x") == value


async def test_a_deleted_function_is_gone(desk: Desk) -> None:
    await desk.define()
    await desk.functions.delete("f")
    assert not await desk.branches()
    with pytest.raises(FunctionNotFound):
        await desk.chunks("x")


@pytest.mark.parametrize(
    "model", ["scripted-kv:num_ctx=2048", "scripted-kv:num_ctx=2048,no_truncate", "scripted-prompt:"]
)
async def test_nothing_of_a_call_is_left(desk: Desk) -> None:
    function = await desk.define(max_tokens=9)
    hot = await desk.branches()
    for argument in ("x", "xyzzy", "x"):
        assert (await desk.chunks(argument))[-1].summary is not None
    assert await desk.branches() == hot
    assert desk.sessions.all() == []
    told = await desk.tally()
    if desk.model.endswith("2048"):
        assert told.dropped_tokens == told.computed_tokens - function.body_tokens > 0
        assert told.kept_tokens == told.memory_tier == 0


async def test_what_a_call_finds_is_not_dropped_with_it(desk: Desk) -> None:
    """A session that has the same messages keeps what it has."""
    told = asked(session_config=RAW, max_tokens=4)
    await desk.define(session_config=RAW, max_tokens=4)
    session, answer = await desk.session(told, "xyz")
    computed = (await desk.tally()).computed_tokens
    assert await desk.value("xyz") == answer
    assert session.resident_tokens == len(session.tokens)
    assert (await desk.tally()).dropped_tokens == 0
    generated = len(session.tokens) - len(desk.before)
    assert (await desk.tally()).computed_tokens <= computed + 1 + generated, (
        "more than what logits are wanted of"
    )


async def test_each_call_draws_a_seed_unless_the_definition_has_one(desk: Desk) -> None:
    await desk.define(temperature=1.0, max_tokens=12)
    seeds = {(await desk.chunks("x"))[-1].summary.seed for _ in range(4)}  # type: ignore[union-attr]
    assert len(seeds) == 4
    await desk.define(temperature=1.0, max_tokens=12, seed=7)
    assert len({await desk.value("x") for _ in range(3)}) == 1


async def test_as_many_as_there_may_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MAX_FUNCTIONS", 2)
    await desk.define("a")
    outcomes = await asyncio.gather(*(desk.define(name) for name in "bcd"), return_exceptions=True)
    assert sum(isinstance(each, SessionUnavailable) for each in outcomes) == 2
    assert len(desk.functions.all()) == 2
    await desk.define("a", max_tokens=3)  # one that is there may become another
    assert len(await desk.branches()) == 2


async def test_as_much_as_all_may_take(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MAX_ALL_SAID", 100)
    await desk.define("a", "x" * 50)
    with pytest.raises(SessionUnavailable):
        await desk.define("b", "x" * 50)
    await desk.define("a", "y" * 60)
    assert [each.name for each in desk.functions.all()] == ["a"]


async def test_what_is_on_its_way_takes_room_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MAX_ALL_SAID", 100)
    outcomes = await asyncio.gather(*(desk.define(name, "x" * 60) for name in "abc"), return_exceptions=True)
    assert sum(isinstance(each, SessionUnavailable) for each in outcomes) == 2
    assert len(desk.functions.all()) == len(await desk.branches()) == 1
    [only] = desk.functions.all()
    await asyncio.gather(desk.define(only.name, "y" * 70), desk.define(only.name, "z" * 80))
    await desk.functions.delete(only.name)
    await desk.define("d", "x" * 60)


async def test_definitions_of_one_name_at_once_end_as_one(desk: Desk) -> None:
    await asyncio.gather(*(desk.define(max_tokens=most) for most in range(1, 6)))
    assert len(desk.functions.all()) == len(await desk.branches()) == 1


@pytest.mark.parametrize("model", ["scripted-kv:num_ctx=2048,step_ms=2"])
class TestWhileItRuns:
    """A call takes some time here."""

    async def test_a_call_that_is_cancelled_leaves_nothing(self, desk: Desk) -> None:
        await desk.define(max_tokens=200, session_config=RAW)
        hot = await desk.branches()
        for steps in range(4):
            call = desk.functions.call("f", "xyz", Timings())
            for _ in range(steps):
                await anext(call)
            await call.aclose()
            task = asyncio.create_task(desk.chunks("zyx"))
            await asyncio.sleep(0.01 * steps)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await desk.branches() == hot

    async def test_a_call_goes_on_where_its_function_is_deleted_or_replaced(self, desk: Desk) -> None:
        await desk.define(max_tokens=30, session_config=RAW)
        whole = await desk.value("xyz")
        for change in (desk.define("f", "another body", session_config=RAW), desk.functions.delete("f")):
            await desk.define(max_tokens=30, session_config=RAW)
            async with contextlib.aclosing(desk.functions.call("f", "xyz", Timings())) as call:
                told = [await anext(call)]
                await change
                told += [chunk async for chunk in call]
            assert "".join(chunk.text for chunk in told) == whole
        assert not await desk.branches()

    async def test_a_definition_that_is_cancelled_leaves_nothing(self, desk: Desk) -> None:
        await desk.define("there", "x")
        for pause in (0.0, 0.01, 0.03):
            task = asyncio.create_task(desk.define("f", "xyz" * 500, session_config=RAW))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert [each.name for each in desk.functions.all()] == ["there"]
        assert len(await desk.branches()) == 1


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
async def test_what_becomes_of_calls_that_wait_for_the_body_of_a_function(
    desk: Desk, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    await desk.define(max_tokens=9)
    await desk.stop()
    again = Desk(model, tmp_path / "functions")
    take, waits, go_on = bodies.Body.take, asyncio.Event(), asyncio.Event()

    async def slow(*asked: Any) -> bodies.Body:
        waits.set()
        await go_on.wait()
        return await take(*asked)

    with monkeypatch.context() as patched:
        patched.setattr(bodies.Body, "take", slow)
        call, mapped = asyncio.create_task(again.value("x")), asyncio.create_task(again.mapped(["x"]))
        await waits.wait()
    await (again.define(max_tokens=4) if replaced else again.functions.delete("f"))
    go_on.set()
    if replaced:
        value = await again.value("x")
        assert (await call, [one.value for one in await mapped]) == (value, [value])
    else:
        for asked_before in (call, mapped):
            with pytest.raises(FunctionNotFound):
                await asked_before
    assert len(await again.branches()) == int(replaced)
    await again.stop()


@pytest.mark.parametrize("model", ["scripted-kv:num_ctx=256"])
async def test_a_body_that_had_to_leave_the_cells_is_brought_up_again(desk: Desk) -> None:
    function = await desk.define("f", "xyz" * 60, session_config=RAW, max_tokens=5)
    value = await desk.value("x")
    await desk.engine.park((await function.standing()).home.arena)
    assert (await desk.engine.check()).residence.popitem()[1][0] == 0
    computed = (await desk.tally()).computed_tokens
    assert await desk.value("x") == value
    [(resident, _)] = (await desk.engine.check()).residence.values()
    assert resident == function.body_tokens
    told = await desk.tally()
    assert told.restored_tokens + told.computed_tokens - computed >= function.body_tokens


@pytest.mark.parametrize("again", [False, True], ids=["first engine", "second engine"])
async def test_bodies_pin_no_cells_where_memory_keeps_nothing(tmp_path: Path, *, again: bool) -> None:
    """Four windows of 2,048 tokens do not fit into the cells of two, and a memory tier there is none."""
    desk = Desk("scripted-kv:num_ctx=2048", tmp_path / "functions", tiers=Tiers())
    for name in "xyz":
        await desk.define(name, name * 1200, session_config=RAW, max_tokens=4)
    values = {name: await desk.value("x", name) for name in "xyz"}
    if again:
        os.kill(desk.engine.process.pid, signal.SIGKILL)
        await desk.engine.process._watch
        assert {name: await desk.value("x", name) for name in "xyz"} == values
    told = asked("beside", "zyx" * 500, session_config=RAW, max_tokens=4)
    session, answer = await desk.session(told, "x")
    assert len(session.tokens) > 1500
    assert answer
    assert {name: await desk.value("x", name) for name in "xyz"} == values
    await desk.stop()


async def test_an_engine_that_hangs_stops_no_calls_on_others(desk: Desk) -> None:
    other = "scripted-kv:num_ctx=1024"
    await desk.define("f", session_config=RAW, max_tokens=4)
    function = await desk.define("g", session_config=RAW, max_tokens=4, model=other)
    value, process = await desk.value("x"), (await function.standing()).seat.engine.process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        small = Config(prompt_format="raw", num_ctx=512)
        defining = asyncio.create_task(desk.define("h", session_config=small, model=other))
        while not desk.sessions.memory.opening.locked():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert await desk.value("x") == value
        assert not defining.done()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    await defining
    assert [each.name for each in desk.functions.all()] == ["f", "g", "h"]


async def test_functions_outlive_an_engine(desk: Desk) -> None:
    await desk.define(max_tokens=20)
    value = await desk.value("xyz")
    for _ in range(2):
        os.kill(desk.engine.process.pid, signal.SIGKILL)
        await desk.engine.process._watch
        assert await desk.value("xyz") == value
        assert len(await desk.branches()) == 1


async def test_an_engine_that_dies_while_a_function_is_defined(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    framed = bodies._framed

    async def after_a_death(ground: Ground, definition: Definition) -> tuple[list[int], tuple[int, ...]]:
        monkeypatch.setattr(bodies, "_framed", framed)
        os.kill(desk.engine.process.pid, signal.SIGKILL)
        await desk.engine.process._watch
        return await framed(ground, definition)

    await desk.define("g", max_tokens=9)
    expected = await desk.value("x", "g")
    monkeypatch.setattr(bodies, "_framed", after_a_death)
    await desk.define("f", max_tokens=9)
    assert await desk.value("x") == expected
    assert len(await desk.branches()) == 1, "the other one stands where it is next called"


@pytest.mark.parametrize("model", ["scripted-kv:num_ctx=2048,die=SIGKILL@decode:12"])
async def test_a_call_whose_engine_dies_in_mid_answer_says_so(desk: Desk) -> None:
    await desk.define(max_tokens=40, session_config=RAW)
    with pytest.raises(SessionFatal):
        await desk.chunks("xyz")
    assert [each.name for each in desk.functions.all()] == ["f"]


async def test_what_it_says_of_itself(desk: Desk) -> None:
    told = asked("f", "x", [("y", "z")], RAW, choices=["a", "b"], seed=3)
    function = await desk.functions.define(function_proto.definition(told), Timings())
    said = function_proto.function(function)
    assert said.body_tokens == 3
    assert (said.name, said.body, list(said.examples)) == (told.name, told.body, list(told.examples))
    assert (said.config, said.session_config, said.model) == (told.config, told.session_config, "")
