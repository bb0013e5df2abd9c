"""A map: many calls side by side, each the same as one alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

import pytest
from tests.daemon.functions.desk import Desk, fields_of

from sessiond.daemon.functions import many as maps
from sessiond.daemon.functions.body import Body
from sessiond.daemon.functions.definition import MAX_ALL_ARGUMENTS
from sessiond.daemon.server.function_proto import map_arguments
from sessiond.daemon.sessions.lanes import AT_ONCE
from sessiond.daemon.sessions.statuses import Timings
from sessiond.v1 import function_service_pb2 as pb
from sessiond.v1.config_pb2 import Config
from sessiond.v1.errors import ContextOverflow, InvalidInput

RAW = Config(prompt_format="raw")
ARGUMENTS = [f"{'xyz' * (index % 7)}{index}" for index in range(40)]


@pytest.mark.parametrize(
    "model",
    [
        *("scripted-kv:num_ctx=2048", "scripted-kv:num_ctx=2048,max_sequences=3", "scripted-prompt:"),
        "scripted-kv:num_ctx=2048,no_truncate",
    ],
)
async def test_each_answer_is_that_of_a_call_alone(desk: Desk, model: str) -> None:
    await desk.define(max_tokens=6)
    hot = await desk.branches()
    mapped = await desk.mapped(ARGUMENTS)
    assert sorted(one.index for one in mapped) == list(range(len(ARGUMENTS)))
    for one in mapped:
        assert one.value == await desk.value(ARGUMENTS[one.index])
        assert one.summary.generated_tokens == len(one.tokens)
    assert await desk.branches() == hot


async def test_equal_arguments_and_none(desk: Desk) -> None:
    await desk.define(max_tokens=6)
    assert await desk.mapped([]) == []
    values = {one.value for one in await desk.mapped(["x"] * 20)}
    assert values == {await desk.value("x")}


async def test_all_that_would_not_fit_are_named_before_any_runs(desk: Desk) -> None:
    await desk.define("f", "x" * 40, session_config=Config(num_ctx=64, prompt_format="raw"), max_tokens=4)
    before = await desk.tally()
    for arguments, named in ((["y", "y" * 21, "y" * 20, "y" * 60], (1, 3)), (["y" * 60], (0,))):
        with pytest.raises(ContextOverflow) as caught:
            await desk.mapped(arguments)
        assert caught.value.arguments == named
    assert await desk.tally() == before


def test_the_arguments_of_a_map_are_of_so_many_bytes_together() -> None:
    most = MAX_ALL_ARGUMENTS // 2
    whole = ["é" * (most // 2)] * 2
    assert map_arguments(pb.MapFunctionRequest(name="f", arguments=whole)) == ("f", whole)
    with pytest.raises(InvalidInput) as caught:
        map_arguments(pb.MapFunctionRequest(name="f", arguments=[*whole, "x"]))
    assert fields_of(caught.value) == ["arguments"]


async def test_a_token_of_an_argument_takes_four_bytes(desk: Desk) -> None:
    body = await (await desk.define()).standing()
    for tokens in await body.tokens_of(["xyz" * 100, "", "z"]):
        assert memoryview(tokens).nbytes == 4 * len(tokens)


async def test_no_more_run_at_once_than_there_is_room_for(desk: Desk) -> None:
    function = await desk.define(
        "f", "x" * 40, session_config=Config(num_ctx=64, prompt_format="raw"), max_tokens=20
    )
    body = await function.standing()
    assert (body.at_once(1), body.at_once(4), body.at_once(68)) == (4, 3, 1)  # 128 cells
    mapped = await desk.mapped(["yy", "zz", "xx", "xy", "zy"])
    assert {one.index for one in mapped} == set(range(5))


@pytest.mark.parametrize("model", ["scripted-kv:num_ctx=2048,step_ms=1"])
class TestWhileItRuns:
    """A map takes some time here."""

    async def test_what_runs_at_once(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        running, most, ended = set[int](), list[int](), list[int]()
        once = maps._one

        async def watched(
            name: str, body: Body, index: int, argument: Sequence[int], whole: Timings
        ) -> maps.Mapped:
            running.add(index)
            most.append(len(running))
            try:
                return await once(name, body, index, argument, whole)
            finally:
                running.discard(index)
                ended.append(index)

        monkeypatch.setattr(maps, "_one", watched)
        await desk.define(max_tokens=8, session_config=RAW)
        one, two = await asyncio.gather(desk.mapped(ARGUMENTS), desk.mapped(ARGUMENTS))
        assert max(most) <= AT_ONCE, "two maps share what may run"
        assert [each.value for each in sorted(one, key=lambda each: each.index)] == [
            each.value for each in sorted(two, key=lambda each: each.index)
        ]
        assert len(ended) == 2 * len(ARGUMENTS)

    async def test_a_map_that_is_left_ends_all_of_it(self, desk: Desk) -> None:
        await desk.define(max_tokens=50, session_config=RAW)
        hot = await desk.branches()
        for answers in range(3):
            async with contextlib.aclosing(desk.functions.map("f", ARGUMENTS, Timings())) as mapped:
                for _ in range(answers):
                    await anext(mapped)
            assert await desk.branches() == hot
            task = asyncio.create_task(desk.mapped(ARGUMENTS))
            await asyncio.sleep(0.02 * answers)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await desk.branches() == hot

    async def test_answers_that_nobody_takes_hold_back_those_that_follow(self, desk: Desk) -> None:
        body = (await desk.define(max_tokens=2, session_config=RAW)).body_tokens
        arguments = [f"{'xyz' * (index % 7)}{index}" for index in range(4 * len(ARGUMENTS))]
        async with contextlib.aclosing(desk.functions.map("f", arguments, Timings())) as mapped:
            await anext(mapped)
            computed = -1
            while computed != (computed := (await desk.tally()).computed_tokens):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
            assert len([one async for one in mapped]) == len(arguments) - 1
        # As many as wait to be taken, as many as are in the hands of workers, and the one that was taken: a tenth of them.
        assert computed - body < ((await desk.tally()).computed_tokens - body) / 4

    async def test_what_an_engine_that_dies_was_at_is_begun_anew(self, desk: Desk) -> None:
        await desk.define(max_tokens=20, session_config=RAW)
        expected = {one.index: one.value for one in await desk.mapped(ARGUMENTS)}
        found = {}
        async with contextlib.aclosing(desk.functions.map("f", ARGUMENTS, Timings())) as mapped:
            async for one in mapped:
                found[one.index] = one.value
                if len(found) == 3:
                    os.kill(desk.engine.process.pid, signal.SIGKILL)
        assert found == expected
        assert len(await desk.branches()) == 1
