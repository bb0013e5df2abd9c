"""What calls compute is what is new in them. The tokens are counted here, by the model's own tokenizer."""

from __future__ import annotations

import random

import pytest
from tests.daemon.functions.desk import Desk

MOST = 1.02
CALLS = 200


def _texts(count: int) -> list[str]:
    rng = random.Random(5)
    words = ["the ", "return ", "xyz", "import ", "élan ", "self.", "=="]
    return ["".join(rng.choices(words, k=rng.randrange(3, 30))) for _ in range(count)]


async def _new(desk: Desk, arguments: list[str], answered: list[int], closing: str) -> int:
    """Tokens of arguments, of the frame behind each, and of answers."""
    told = await desk.engine.tokenize(arguments)
    [frame] = await desk.engine.tokenize([closing], parse_special=True)
    return sum(map(len, told)) + len(frame) * len(arguments) + sum(answered)


@pytest.mark.parametrize("model", ["scripted-kv:num_ctx=4096", "scripted-kv:num_ctx=4096,bos"])
@pytest.mark.parametrize("together", [False, True])
async def test_many_calls_compute_what_is_new(desk: Desk, *, together: bool) -> None:
    body, arguments = "".join(_texts(90)), _texts(CALLS)
    function = await desk.define("f", body, max_tokens=6)
    assert function.body_tokens >= 1000
    before = (await desk.tally()).computed_tokens
    assert before == function.body_tokens
    if together:
        answered = [len(one.tokens) for one in await desk.mapped(arguments)]
    else:
        calls = [await desk.chunks(argument) for argument in arguments]
        answered = [sum(len(chunk.token_ids) for chunk in chunks) for chunks in calls]
    assert len(answered) == CALLS
    told = await desk.tally()
    new = await _new(desk, arguments, answered, "<|im_end|>\n<|im_start|>assistant\n")
    assert new > 5 * CALLS
    assert told.computed_tokens - before <= MOST * new
    assert told.kept_tokens == told.restored_tokens == 0
    assert told.dropped_tokens == told.computed_tokens - before
