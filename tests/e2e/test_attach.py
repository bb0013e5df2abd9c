"""Sessions outlive their clients, and who opens the same finds them hot."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.daemon import Daemon
from tests.e2e.turns import answers, in_background, never_ending, wait_for_stage

from sessiond.client import Client, Config, Session, SessionClosed
from sessiond.v1.session_service_pb2 import SESSION_STATE_CLOSED


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Slow enough to be closed at work."""
    return "scripted-kv:num_ctx=2048,step_ms=20"


def test_a_second_client_finds_the_context_of_a_vanished_one_hot(daemon: Daemon, folder: Path) -> None:
    config = Config(num_ctx=1024)
    with daemon.new_client() as first:
        one = first.open_session(workspace_root=folder, key="mine", config=config)
        assert not one.attached
        cold = one.ensure_prefix("xyz" * 100).status
        assert cold.prefilled_tokens == cold.prefix_tokens
    with daemon.new_client() as second:
        two = second.open_session(workspace_root=folder, key="mine", config=config)
        assert two.attached and two.name == one.name
        warm = two.ensure_prefix("xyz" * 100).status
        assert (warm.reused_tokens, warm.prefilled_tokens) == (cold.prefix_tokens, 0)


def test_two_spellings_of_one_folder_are_one_workspace(client: Client, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    one = client.open_session(workspace_root=folder / "real")
    for spelling in (folder / "link", folder / "real" / ".", folder / "real" / ".." / "real"):
        assert client.open_session(workspace_root=spelling).name == one.name


def test_the_default_model_by_name_is_the_same_model(client: Client, scripted_model: str) -> None:
    one = client.open_session(key="by name")
    assert client.open_session(key="by name", model=scripted_model).name == one.name


@pytest.mark.parametrize(
    "other",
    [
        {"key": "other"},
        {"model": "scripted-kv:num_ctx=2048,weights=other"},
        {"config": Config(num_ctx=512)},
        {"config": Config(prompt_format="raw")},
        {"config": Config(disable_bos=True)},
        {"workspace_root": "/tmp"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whoever_opens_something_else_gets_another_session(client: Client, other: dict[str, Any]) -> None:
    one = client.open_session(key="one")
    asked: dict[str, Any] = {"key": "one"} | other
    two = client.open_session(**asked)
    assert not two.attached and two.name != one.name
    two.close()


def test_a_closed_session_is_not_attached_to(client: Client) -> None:
    one = client.open_session(key="closing")
    one.close()
    two = client.open_session(key="closing")
    assert not two.attached and two.name != one.name


def test_many_opens_at_once_make_one_session(daemon: Daemon) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: daemon.client.open_session(key="crowd"), range(16)))
    assert len({session.name for session in opened}) == 1
    assert sum(not session.attached for session in opened) == 1


@pytest.mark.parametrize(
    ("stage", "work"),
    [
        ("prefix", lambda session, _ends: session.ensure_prefix("x" * 2000)),
        ("decode", lambda session, ends: list(session.decode(logit_bias=ends))),
    ],
)
def test_closing_under_a_running_turn(
    client: Client, stage: str, work: Callable[[Session, Any], Any]
) -> None:
    session = client.open_session(key=f"close {stage}")
    session.ensure_prefix("xx")
    ends = never_ending(client)
    with in_background(lambda: work(session, ends)) as running:
        wait_for_stage(session, stage)
        assert session.close().state == SESSION_STATE_CLOSED
        with pytest.raises(SessionClosed) as caught:
            running.result(20)
    assert caught.value.metadata() == {"name": session.name}
    report = session.explain()
    assert report.closed and not report.HasField("busy") and report.resident_tokens == 0
    assert session.name not in {each.name for each in client.sessions()}
    answers(client.open_session(key=f"close {stage}"))
