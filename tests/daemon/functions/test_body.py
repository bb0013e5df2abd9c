"""The body of a function: its tokens are those of a session with the same messages, and it fits or is refused."""

from __future__ import annotations

import pytest
from tests.daemon.functions.desk import Desk, asked, fields_of

from sessiond.v1.config_pb2 import Config
from sessiond.v1.errors import ContextOverflow, InvalidInput, SessiondError, UnsupportedFeature

EXAMPLES = [("xx", "y"), ("", "zzz"), ("<|im_end|>", "x\ny")]


@pytest.mark.parametrize(
    "model", ["scripted-kv:num_ctx=2048", "scripted-kv:num_ctx=2048,bos", "scripted-prompt:"]
)
@pytest.mark.parametrize("form", ["", "chatml", "llama3", "raw"])
@pytest.mark.parametrize("shown", [0, 1, 3])
async def test_a_call_is_what_a_session_with_the_same_messages_is(desk: Desk, form: str, shown: int) -> None:
    told = asked("f", "x<|im_start|>y z", EXAMPLES[:shown], Config(prompt_format=form), max_tokens=5)
    function = await desk.define("f", told.body, EXAMPLES[:shown], told.session_config, max_tokens=5)
    for argument in ("xyz", "<|im_end|>", "a\n"):
        _, answer = await desk.session(told, argument)
        body = await function.standing()
        [tokens] = await body.tokens_of([argument])
        assert [*body.tokens, *tokens, *body.closing] == desk.before
        assert function.body_tokens == len(body.tokens)
        assert await desk.value(argument) == answer


@pytest.mark.parametrize(
    ("settings", "stage"),
    [
        ({"body": "x" * 65}, "prefix"),
        ({"body": "x" * 60, "max_tokens": 5}, "decode"),
        ({"body": "x" * 64}, "decode"),
        ({"body": "x" * 40, "examples": [("y" * 20, "z" * 20)]}, "prefix"),
    ],
)
async def test_what_could_never_be_called_is_refused_and_leaves_nothing(
    desk: Desk, settings: dict[str, object], stage: str
) -> None:
    raw = Config(num_ctx=64, prompt_format="raw")
    with pytest.raises(ContextOverflow) as caught:
        await desk.define(session_config=raw, **settings)
    assert (caught.value.stage, caught.value.num_ctx, caught.value.arguments) == (stage, 64, ())
    assert not await desk.branches()
    assert (await desk.tally()).computed_tokens == 0
    assert desk.functions.all() == []


async def test_an_argument_fits_or_is_refused_to_the_token(desk: Desk) -> None:
    await desk.define("f", "x" * 40, session_config=Config(num_ctx=64, prompt_format="raw"), max_tokens=4)
    await desk.chunks("y" * 20)
    before = await desk.tally()
    for size, stage in ((21, "decode"), (24, "decode"), (25, "suffix")):
        with pytest.raises(ContextOverflow) as caught:
            await desk.chunks("y" * size)
        assert (caught.value.stage, caught.value.arguments) == (stage, ())
    assert await desk.tally() == before


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"temperature": -1.0}, "config.temperature"),
        ({"grammar": "root ::= ("}, "config.grammar"),
        ({"json_schema": "{"}, "config.json_schema"),
        ({"choices": ["a"], "grammar": 'root ::= "a"'}, "config.choices"),
        ({"stop": [""]}, "config.stop[0]"),
        ({"session_config": Config(prompt_format="none of ours")}, "session_config.prompt_format"),
        ({"session_config": Config(kv_cache_type="none")}, "session_config.kv_cache_type"),
        ({"model": "no such model"}, "model"),
    ],
)
async def test_how_it_is_decoded_and_where_it_runs_is_judged_at_its_definition(
    desk: Desk, settings: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await desk.define(**settings)
    assert fields_of(caught.value)[0].startswith(field), caught.value
    assert desk.functions.all() == []
    assert not desk.sessions.pool.loaded() or not await desk.branches()


@pytest.mark.parametrize("model", ["scripted-prompt:"])
async def test_what_the_backend_cannot_do_is_said_at_the_definition(desk: Desk) -> None:
    for settings in ({"choices": ["a"]}, {"logprobs": 1}):
        with pytest.raises(UnsupportedFeature):
            await desk.define(**settings)
    with pytest.raises(SessiondError):
        await desk.chunks("x")
