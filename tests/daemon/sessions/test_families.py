"""Conversations under the templates of six families, over real vocabularies: every turn computes its own tokens only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import jinja2
import jinja2.sandbox
import pytest
import pytest_asyncio
from tests.adapters.real_vocabularies import write

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.engine.frames import frame
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import SuffixStatus, Timings
from sessiond.daemon.sessions.suffix import MessageInput, SuffixRequest
from sessiond.daemon.workspace.segment import Segment

TURNS = 10
_TEMPLATES = Path(__file__).with_name("templates")
_PREFIX = "You know this project.\n\ndef mean(values):\n    return sum(values) / len(values)\n"


class Family(NamedTuple):
    """A vocabulary, and the special tokens that it lacks."""

    vocabulary: str
    added: tuple[str, ...] = ()
    eos: str = "</s>"


FAMILIES = {
    "llama3": Family("llama-bpe"),
    "qwen2": Family("qwen2"),
    "mistral": Family("llama-spm"),
    "gemma": Family("llama-spm", ("<start_of_turn>", "<end_of_turn>")),
    "phi3": Family("phi-3"),
    "deepseek": Family("deepseek-coder"),
}


def _template(name: str) -> str:
    return (_TEMPLATES / f"{name}.jinja").read_text().rstrip("\n")


def _messages() -> list[MessageInput]:
    return [
        MessageInput(role, f" What is the {turn}th? <|eot_id|></s>" if role == "user" else f" It is {turn}.")
        for turn in range(TURNS)
        for role in ("user", "assistant")
    ]


@pytest_asyncio.fixture
async def registry() -> AsyncGenerator[SessionRegistry, None]:
    async def same(model: str) -> str:
        return model

    made = SessionRegistry(same, 16, default_num_ctx=2048)
    yield made
    await made.stop()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of each."""
    return str(request.param)


@pytest.fixture
def model(family: str, tmp_path: Path) -> str:
    """A model of that family."""
    chosen = FAMILIES[family]
    path = write(
        tmp_path / f"{family}.gguf", chosen.vocabulary, added=chosen.added, template=_template(family)
    )
    return str(path)


async def _opened(registry: SessionRegistry, model: str, key: str, prefix: str) -> Session:
    config = SessionConfig(context=ContextSettings(num_ctx=2048, num_threads=1, num_threads_batch=1))
    session, _ = await registry.open(OpenRequest(None, model, key, config))
    await session.ensure_prefix(PrefixRequest((Segment("text", "text", prefix),)), Timings())
    return session


async def _add(session: Session, *messages: MessageInput) -> SuffixStatus:
    return await session.prefill_suffix(SuffixRequest(messages=messages), Timings())


@pytest.mark.model
@pytest.mark.parametrize("prefix", [_PREFIX, ""], ids=["prefix", "no prefix"])
async def test_a_turn_computes_its_own_tokens_and_leaves_what_a_fresh_session_has(
    registry: SessionRegistry, model: str, prefix: str
) -> None:
    session = await _opened(registry, model, "live", prefix)
    messages = _messages()
    for index, message in enumerate(messages[:-1]):
        standing = session.tokens
        status = await _add(session, message)
        assert session.tokens[: len(standing)] == standing, "what stood was changed"
        assert status.prefilled_tokens == status.suffix_tokens == len(session.tokens) - len(standing)
        # A message, and what stands around one at most: ten tokens and a half, where special tokens are whole.
        [content] = await session.engine.tokenize([message.content])
        assert status.suffix_tokens - len(content) <= (64 if index == 0 else 24)
        if index % 6 in {2, 3}:
            fresh = await _opened(registry, model, f"fresh {index}", prefix)
            await _add(fresh, *messages[: index + 1])
            assert fresh.tokens == session.tokens
            await fresh.close()
    whole = await _opened(registry, model, "whole", prefix)
    await _add(whole, *messages[:-1])
    assert whole.tokens == session.tokens


@pytest.mark.model
async def test_answers_stay_and_the_next_question_comes_behind_them(
    registry: SessionRegistry, model: str
) -> None:
    session = await _opened(registry, model, "live", _PREFIX)
    for message in _messages()[::2]:
        standing = session.tokens
        status = await _add(session, message)
        assert session.tokens[: len(standing)] == standing
        assert status.prefilled_tokens <= status.suffix_tokens + 1  # an answer's last token has no KV yet
        answer = [
            token
            async for chunk in session.decode(DecodeRequest(Sampling(), 4), Timings())
            for token in chunk.token_ids
        ]
        assert session.tokens[len(session.tokens) - len(answer) :] == answer


def test_frames_are_what_the_template_renders(family: str) -> None:
    """With the contents in place, but for spaces around them that it trims."""
    source = _template(family)
    messages = [MessageInput(message.role, message.content.strip()) for message in _messages()[:-1]]
    pieces = frame(source, [message.role for message in messages], FAMILIES[family].eos, "<s>")
    said = pieces[0] + "".join(
        message.content + piece for message, piece in zip(messages, pieces[1:], strict=True)
    )
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    rendered = environment.from_string(source).render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        add_generation_prompt=True,
        bos_token="",
        eos_token=FAMILIES[family].eos,
        tools=None,
        date_string="01 Jan 2025",
    )
    # The space before an answer is the answer's own, and these have none.
    assert said == rendered.replace("Assistant: It", "Assistant:It").replace("[/INST] It", "[/INST]It")
