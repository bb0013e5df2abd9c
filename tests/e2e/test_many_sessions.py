"""Many sessions over one workspace share one tree: a second client, a fork, an undo cost no prefill."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually

from sessiond.client import Client, InvalidInput, Session, SessionBusy
from sessiond.v1.model_service_pb2 import GetRuntimeRequest, GetRuntimeResponse
from sessiond.v1.model_service_pb2_grpc import ModelServiceStub

PREFIX = "def f():\n    return 1\n" * 10


def runtime(daemon: Daemon) -> GetRuntimeResponse:
    return ModelServiceStub(daemon.channel()).GetRuntime(GetRuntimeRequest())


def answer(session: Session, question: str) -> str:
    parts = session.complete(question, mode="replace", max_tokens=12)
    return "".join(part.chunk.text for part in parts if part.HasField("chunk"))


def test_a_second_client_walks(client: Client, tmp_path: Path) -> None:
    first, second = (client.open_session(workspace_root=tmp_path, key=key) for key in ("one", "two"))
    cold = first.ensure_prefix(PREFIX).status
    warm = second.ensure_prefix(PREFIX).status
    assert cold.prefilled_tokens == cold.prefix_tokens
    assert (warm.reused_tokens, warm.prefilled_tokens) == (cold.prefix_tokens, 0)
    assert second.explain().shared_tokens == first.explain().shared_tokens == cold.prefix_tokens


def test_workspaces_do_not_see_each_other(client: Client, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        status = client.open_session(workspace_root=tmp_path / name).ensure_prefix(PREFIX).status
        assert status.prefilled_tokens == status.prefix_tokens
        assert status.reused_tokens == 0


def test_a_fork_is_what_its_parent_is(client: Client, tmp_path: Path) -> None:
    parent = client.open_session(workspace_root=tmp_path)
    parent.ensure_prefix(PREFIX)
    parent.prefill_suffix("What does it return?")
    child = parent.fork(key="branch")
    mine, its = parent.explain(), child.explain()
    assert its.manifest_digest == mine.manifest_digest
    assert (its.prefix_tokens, its.suffix_tokens) == (mine.prefix_tokens, mine.suffix_tokens)
    assert its.resident_tokens == its.shared_tokens == mine.resident_tokens
    texts = ["".join(chunk.text for chunk in one.decode(max_tokens=12)) for one in (parent, child)]
    assert texts[0] == texts[1] != ""
    assert child.ensure_prefix(PREFIX).status.prefilled_tokens == 0
    assert answer(child, "And why?") == answer(parent, "And why?")


def test_a_fork_outlives_its_parent(client: Client, tmp_path: Path) -> None:
    parent = client.open_session(workspace_root=tmp_path)
    parent.ensure_prefix(PREFIX)
    child = parent.fork()
    parent.close()
    assert child.ensure_prefix(PREFIX).status.prefilled_tokens == 0


def test_a_key_belongs_to_one_session(client: Client, tmp_path: Path) -> None:
    parent = client.open_session(workspace_root=tmp_path, key="mine")
    child = parent.fork(key="other")
    assert client.open_session(workspace_root=tmp_path, key="other").name == child.name
    with pytest.raises(InvalidInput) as caught:
        parent.fork(key="mine")
    assert [violation.field for violation in caught.value.violations] == ["key"]


def test_a_busy_session_is_not_forked(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:step_ms=50") as slow:
        session = slow.client.open_session()
        session.ensure_prefix("x")
        with session.decode(max_tokens=500) as chunks:
            next(chunks)
            with pytest.raises(SessionBusy):
                session.fork()


def test_undo_and_switching_back_prefill_nothing(client: Client, tmp_path: Path) -> None:
    session = client.open_session(workspace_root=tmp_path)
    one, two = PREFIX + "a = 1\n" * 20, PREFIX + "b = 2\n" * 20
    for text in (one, two):
        assert session.ensure_prefix(text).status.prefilled_tokens > 0
    for text in (one, two, one):
        assert session.ensure_prefix(text).status.prefilled_tokens == 0


def test_the_runtime_names_the_cells_of_each_workspace(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    session = client.open_session(workspace_root=tmp_path)
    told = runtime(daemon)
    [arena] = [arena for arena in told.arenas if arena.workspace_root == str(tmp_path)]
    assert arena.cells == 2 * session.explain().num_ctx
    assert arena.kv_bytes > 0
    assert told.kv_bytes >= arena.kv_bytes
    assert told.kv_free_bytes > 0 < told.reserve_bytes
    assert [model.pid > 0 for model in told.models] == [True]
    session.close()
    eventually(
        lambda: all(arena.workspace_root != str(tmp_path) for arena in runtime(daemon).arenas), "it is gone"
    )
