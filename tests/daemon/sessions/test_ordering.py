"""The order of a workspace's files: it changes when nobody waits, and is given to sessions once it is computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.daemon.workspace.repositories import commit, git

from sessiond.daemon.sessions import workspaces as workspaces_module
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import PrefixStatus, Timings
from sessiond.daemon.sessions.workspaces import Workspace
from sessiond.daemon.workspace.watch.watcher import Burst

_WORKSPACE = PrefixRequest(workspace=True)
_SLOW = "scripted-kv:step_ms=50"
_PATIENCE_S = 20.0
_IDLE_S = 0.2


@pytest_asyncio.fixture
async def registry(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SessionRegistry, None]:
    async def same(model: str) -> str:
        return model

    monkeypatch.setattr(workspaces_module, "IDLE_S", _IDLE_S)
    monkeypatch.setattr(workspaces_module, "LOOKS_EVERY_S", 0.01)
    made = SessionRegistry(same, 16, default_num_ctx=4096, calm=Calm())
    yield made
    await made.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"{name}" * 400, encoding="utf-8")
    return tmp_path


async def _open(registry: SessionRegistry, root: Path, model: str = "scripted-kv:", key: str = "") -> Session:
    config = SessionConfig(prompt_format="raw")
    session, _ = await registry.open(OpenRequest(root, model, key, config))
    return session


async def _ensure(session: Session, request: PrefixRequest = _WORKSPACE) -> PrefixStatus:
    return await session.ensure_prefix(request, Timings())


def _paths(session: Session) -> list[str]:
    return [segment.path for segment in session.report().manifest.segments]


def _workspace(session: Session) -> Workspace:
    assert session.workspace is not None
    return session.workspace


async def _eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not happened():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


def _ranks(session: Session) -> list[str]:
    """The order that the next prefix is given."""
    return _workspace(session)._ordering.known.calmest_first(["a.txt", "b.txt", "c.txt"])


async def _edited(root: Path, session: Session, name: str, times: int = 5) -> None:
    """Save a file again and again, each time as a burst of its own, and be told of the last."""
    workspace = _workspace(session)
    await _eventually(lambda: workspace._watch is not None and workspace._watch.watcher.state == "watching")
    for number in range(times):
        before = workspace._saved
        (root / name).write_text(f"{number}" * 400, encoding="utf-8")
        await _eventually(lambda before=before: workspace._saved > before)  # type: ignore[misc]  # bound at once


async def test_what_is_saved_again_and_again_moves_to_the_end_when_nobody_waits(
    registry: SessionRegistry, root: Path
) -> None:
    session = await _open(registry, root)
    await _ensure(session)
    assert _paths(session) == ["a.txt", "b.txt", "c.txt"]
    await _edited(root, session, "a.txt")
    await _eventually(lambda: _ranks(session) == ["b.txt", "c.txt", "a.txt"])
    assert _paths(session) == ["a.txt", "b.txt", "c.txt"], "a session moves at its own next request"
    warm = await _ensure(session)
    assert _paths(session) == ["b.txt", "c.txt", "a.txt"]
    assert warm.prefilled_tokens == 0, "all of it was computed before anybody was given it"
    cost = session.report().edit_cost
    assert cost is not None and cost.tokens < cost.by_path_tokens


async def test_all_sessions_of_a_workspace_have_one_order(registry: SessionRegistry, root: Path) -> None:
    one, two = await _open(registry, root, key="one"), await _open(registry, root, key="two")
    cold = PrefixRequest(workspace=True, keep_hot=False)
    await _ensure(one)
    await _ensure(two, cold)
    await _edited(root, one, "a.txt")
    await _eventually(lambda: _ranks(one) == ["b.txt", "c.txt", "a.txt"])
    await _ensure(one)
    status = await _ensure(two, cold)
    assert _paths(one) == _paths(two) == ["b.txt", "c.txt", "a.txt"]
    assert status.prefilled_tokens == 0


async def test_while_a_new_order_is_tried_sessions_are_given_the_old_one(
    registry: SessionRegistry, root: Path
) -> None:
    session = await _open(registry, root, _SLOW)
    await _ensure(session)
    workspace = _workspace(session)
    await _edited(root, session, "a.txt")
    await _eventually(lambda: workspace._trial is not None)
    status = await _ensure(session)
    assert _paths(session) == ["a.txt", "b.txt", "c.txt"]
    assert status.prefilled_tokens == 0
    await _eventually(lambda: _ranks(session) == ["b.txt", "c.txt", "a.txt"])
    assert (await _ensure(session)).prefilled_tokens == 0


async def test_a_save_ends_the_trial_of_an_order_and_it_is_tried_again(
    registry: SessionRegistry, root: Path
) -> None:
    session = await _open(registry, root, _SLOW)
    await _ensure(session)
    workspace = _workspace(session)
    await _edited(root, session, "a.txt")
    await _eventually(lambda: workspace._trial is not None)
    workspace.changed(Burst(frozenset({"b.txt"}), rescan=False, began=0.0))
    assert workspace._trial is None
    assert _ranks(session) == ["a.txt", "b.txt", "c.txt"]
    assert workspace._ordering.stirred.is_set()
    await _eventually(lambda: _ranks(session) == ["b.txt", "c.txt", "a.txt"])


async def test_under_a_turn_no_order_is_looked_for(registry: SessionRegistry, root: Path) -> None:
    session = await _open(registry, root)
    await _ensure(session)
    async with registry.memory.turn(session.engine, session.home.arena):
        assert session.home.quiet_s(root) == 0.0
        await _edited(root, session, "a.txt")
        await asyncio.sleep(3 * _IDLE_S)
        assert _workspace(session)._trial is None
        assert _workspace(session)._ordering.stirred.is_set()
    await _eventually(lambda: _ranks(session) == ["b.txt", "c.txt", "a.txt"])


async def test_where_nothing_is_kept_hot_the_order_stays(registry: SessionRegistry, root: Path) -> None:
    session = await _open(registry, root)
    cold = PrefixRequest(workspace=True, keep_hot=False)
    await _ensure(session, cold)
    for number in range(5):
        (root / "a.txt").write_text(f"{number}" * 400, encoding="utf-8")
    await asyncio.sleep(3 * _IDLE_S)
    await _ensure(session, cold)
    assert _paths(session) == ["a.txt", "b.txt", "c.txt"]


async def test_a_file_that_no_commit_holds_yet_stands_last_from_the_first_prefix_on(
    registry: SessionRegistry, root: Path
) -> None:
    git(root, "init", "-q")
    (root / ".git" / "info" / "exclude").write_text("b.txt\n", encoding="utf-8")
    commit(root)
    (root / ".git" / "info" / "exclude").unlink()
    session = await _open(registry, root)
    await _ensure(session)
    assert _paths(session) == ["a.txt", "c.txt", "b.txt"]


async def test_what_an_edit_costs_is_unknown_where_no_edit_is(registry: SessionRegistry, root: Path) -> None:
    session = await _open(registry, root)
    assert session.report().edit_cost is None
    await _ensure(session)
    assert session.report().edit_cost is None
