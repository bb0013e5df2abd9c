"""All sessions: who attaches, how many there may be, and what is forgotten."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.sessions import registry as registry_module
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import (
    InvalidInput,
    ManifestMismatch,
    SessionClosed,
    SessionNotFound,
    SessionUnavailable,
)


def _request(key: str = "", config: SessionConfig | None = None, model: str = "scripted-kv:") -> OpenRequest:
    return OpenRequest(None, model, key, config or SessionConfig())


async def test_the_same_attaches(registry: SessionRegistry) -> None:
    one, attached = await registry.open(_request())
    assert not attached
    assert await registry.open(_request()) == (one, True)
    assert await registry.open(OpenRequest(None, "", "", SessionConfig())) == (one, True)
    assert registry.all() == [one]
    assert registry.get(one.name) is registry.live(one.name) is one


@pytest.mark.parametrize(
    "other",
    [
        _request("key"),
        _request(config=SessionConfig(prompt_format="raw")),
        _request(config=SessionConfig(context=ContextSettings(num_ctx=64))),
        _request(model="scripted-kv:weights=other"),
        OpenRequest(Path("/tmp"), "scripted-kv:", "", SessionConfig()),
    ],
)
async def test_another_request_is_another_session(registry: SessionRegistry, other: OpenRequest) -> None:
    one, _ = await registry.open(_request())
    two, attached = await registry.open(other)
    assert not attached and two is not one


async def test_opens_at_once_make_one_session(registry: SessionRegistry) -> None:
    opened = await asyncio.gather(
        *(registry.open(_request(model="scripted-kv:load_ms=100")) for _ in range(6))
    )
    assert len({session.name for session, _ in opened}) == 1
    assert sorted(attached for _, attached in opened) == [False] + [True] * 5


@pytest.mark.parametrize("most", [2])
async def test_no_more_than_the_limit(registry: SessionRegistry) -> None:
    first, _ = await registry.open(_request("a"))
    await registry.open(_request("b"))
    with pytest.raises(SessionUnavailable, match="2 sessions"):
        await registry.open(_request("c"))
    assert (await registry.open(_request("a")))[1]  # to attach is no new one
    await registry.close(first.name)
    await registry.open(_request("c"))


@pytest.mark.parametrize("most", [2])
async def test_no_more_than_the_limit_also_when_all_come_at_once(registry: SessionRegistry) -> None:
    opened = await asyncio.gather(
        *(registry.open(_request(str(i))) for i in range(6)), return_exceptions=True
    )
    assert len(registry.all()) <= 2
    assert sum(isinstance(each, SessionUnavailable) for each in opened) == 4


async def test_the_window_is_the_daemon_s_default_within_what_the_model_can(
    registry: SessionRegistry,
) -> None:
    by_default, _ = await registry.open(_request())
    assert by_default.config.context.num_ctx == 512
    small, _ = await registry.open(_request(model="scripted-kv:num_ctx=128"))
    assert small.config.context.num_ctx == 128
    asked, _ = await registry.open(_request(config=SessionConfig(context=ContextSettings(num_ctx=64))))
    assert asked.config.context.num_ctx == 64


async def test_closed_is_not_unknown(registry: SessionRegistry) -> None:
    session, _ = await registry.open(_request())
    await registry.close(session.name)
    assert registry.all() == []
    assert registry.get(session.name).state == "closed"
    for again in (registry.close(session.name), session.ensure_prefix(PrefixRequest(), Timings())):
        with pytest.raises(SessionClosed):
            await again
    with pytest.raises(SessionClosed):
        registry.live(session.name)
    with pytest.raises(SessionNotFound):
        registry.get("sessions/none")
    new, attached = await registry.open(_request())
    assert not attached and new.name != session.name


async def test_a_death_takes_the_kv_of_all_and_no_session(registry: SessionRegistry) -> None:
    one, _ = await registry.open(_request("one"))
    two, _ = await registry.open(_request("two"))
    other, _ = await registry.open(_request(model="scripted-kv:weights=other"))
    for each in (one, other):
        await each.ensure_prefix(PrefixRequest((Segment("a", "text", "AA"),)), Timings())
    before, dead = one.tokens, one.engine
    dead.process.kill(11)
    await dead.process._watch
    assert [each.state for each in (one, two, other)] == ["ready", "ready", "ready"]
    assert (one.resident_tokens, other.resident_tokens) == (0, len(other.tokens))
    assert (one.tokens, one.report().fatal_cause) == (before, "")
    assert await registry.open(_request("one")) == (one, True)
    status = await one.ensure_prefix(PrefixRequest((Segment("a", "text", "AA"),)), Timings())
    assert (one.tokens, status.resident_tokens) == (before, len(before))
    assert one.engine is two.engine is not dead


async def test_the_ended_are_forgotten_oldest_first(
    registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "REMEMBERED", 2)
    names: list[str] = []
    for index in range(5):
        session, _ = await registry.open(_request(str(index)))
        names.append(session.name)
        await registry.close(session.name)
    await registry.open(_request("last"))
    for name in names[:3]:
        with pytest.raises(SessionNotFound):
            registry.get(name)
    assert [registry.get(name).state for name in names[3:]] == ["closed", "closed"]


async def test_what_is_forgotten_is_held_by_nobody(
    registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead engine keeps its texts' tokens: it must go with its sessions, or when they go on with another."""
    monkeypatch.setattr(registry_module, "REMEMBERED", 0)
    session, _ = await registry.open(_request("dies"))
    session.engine.process.kill(9)
    await session.engine.process._watch
    name, gone, dead = session.name, weakref.ref(session), weakref.ref(session.engine)
    await registry.close(name)
    del session
    await registry.open(_request("other"))
    with pytest.raises(SessionNotFound):
        registry.get(name)
    gc.collect()
    assert gone() is None
    assert dead() is None


async def test_locks_of_opens_that_are_over_are_not_kept(registry: SessionRegistry) -> None:
    """A client that opens with ever new keys must not fill the memory."""
    for index in range(5):
        session, _ = await registry.open(_request(str(index)))
        await registry.close(session.name)
    assert len(registry._opening) < 5


async def test_a_cancelled_open_leaves_no_branch_behind(
    registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window's cells are taken as soon as the engine opens the branch."""
    await registry.engine("")
    branches: set[str] = set()
    asked = asyncio.Event()
    real_open, real_close = Engine.open, Engine.close

    async def open_(
        self: Engine, branch: str, arena: str, settings: ContextSettings, **how: Any
    ) -> wire.Opened:
        branches.add(branch)
        asked.set()
        return await real_open(self, branch, arena, settings, **how)

    async def close(self: Engine, branch: str) -> None:
        branches.discard(branch)
        await real_close(self, branch)

    monkeypatch.setattr(Engine, "open", open_)
    monkeypatch.setattr(Engine, "close", close)
    task = asyncio.create_task(registry.open(_request()))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.1)
    assert branches == {session.id for session in registry.all()}


async def test_a_template_that_is_not_the_expected_one(registry: SessionRegistry) -> None:
    with pytest.raises(ManifestMismatch) as raised:
        await registry.open(_request(config=SessionConfig(prompt_template_digest="00")))
    [field] = raised.value.fields
    assert (field.name, field.expected) == ("prompt_template_digest", "00")
    session, _ = await registry.open(_request(config=SessionConfig(prompt_template_digest=field.actual)))
    assert session.identity.prompt_template_digest == field.actual


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (SessionConfig(prompt_format="nonsense"), "config.prompt_format"),
        (SessionConfig(context=ContextSettings(kv_cache_type="f64")), "config.kv_cache_type"),
    ],
)
async def test_a_setting_that_cannot_be(registry: SessionRegistry, config: SessionConfig, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await registry.open(_request(config=config))
    assert [violation.field for violation in raised.value.violations] == [field]
    assert registry.all() == []


async def test_sessions_share_an_engine_where_loading_is_the_same(registry: SessionRegistry) -> None:
    one, _ = await registry.open(_request("one"))
    two, _ = await registry.open(_request("two", SessionConfig(prompt_format="raw")))
    three, _ = await registry.open(_request("three", SessionConfig(model=ModelSettings(use_mmap=False))))
    assert one.engine is two.engine is not three.engine
    await two.ensure_prefix(PrefixRequest((Segment("a", "text", "AA"),)), Timings())
    assert (one.resident_tokens, two.resident_tokens) == (0, 2)
