"""What the requests say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond.client import ContextManifest, DecodeConfig, InvalidInput, Message, SegmentInput, requests
from sessiond.client.calls import models, sessions
from sessiond.v1 import context_pb2


def test_decode_settings_are_the_fields_of_decode_config() -> None:
    assert set(requests.DecodeSettings.__annotations__) == set(DecodeConfig.DESCRIPTOR.fields_by_name)


def test_settings_win_over_the_config_also_where_they_are_zero() -> None:
    config = DecodeConfig(temperature=0.7, stop=["a"], max_tokens=5, seed=3)
    chosen = requests.decode_config(config, {"temperature": 0.0, "stop": ["b"], "seed": 0})
    assert chosen == DecodeConfig(temperature=0, stop=["b"], max_tokens=5, seed=0)
    assert chosen.HasField("seed")
    assert config.temperature == 0.7


def test_an_absent_expect_and_an_empty_one_differ() -> None:
    assert not requests.prefix_input("x").HasField("expect")
    assert requests.prefix_input("x", expect=ContextManifest()).HasField("expect")
    assert requests.suffix_input("x", expect=ContextManifest()).HasField("expect")


def test_a_prefix_has_one_source() -> None:
    assert requests.prefix_input().WhichOneof("source") is None
    assert requests.prefix_input("").WhichOneof("source") == "text"
    assert requests.prefix_input(workspace=True).WhichOneof("source") == "workspace"
    assert requests.prefix_input(workspace=context_pb2.WorkspaceInput(max_tokens=7)).workspace.max_tokens == 7
    listed = requests.prefix_input(segments=[("a", "A"), SegmentInput(id="b", text="B", path="b.py")])
    assert [segment.id for segment in listed.segments.segments] == ["a", "b"]
    assert requests.prefix_input(segments=[]).WhichOneof("source") == "segments"
    with pytest.raises(InvalidInput, match="at most one"):
        requests.prefix_input("x", workspace=True)


def test_a_suffix_has_one_source() -> None:
    assert requests.suffix_input("").WhichOneof("source") == "text"
    told = requests.suffix_input(
        messages=[("user", "hi"), Message(role="assistant", content="ho")], mode="replace"
    )
    assert [message.role for message in told.messages.messages] == ["user", "assistant"]
    assert told.mode == context_pb2.SUFFIX_MODE_REPLACE
    assert requests.suffix_input(fim=("a", "b")).fim.after == "b"
    assert requests.suffix_input("x").mode == context_pb2.SUFFIX_MODE_UNSPECIFIED
    with pytest.raises(InvalidInput):
        requests.suffix_input("x", fim=("a", "b"))


@pytest.mark.parametrize(
    ("field", "build"),
    [
        ("text", lambda: requests.prefix_input("\udcff")),
        ("text", lambda: requests.prefix_input(segments=[("a", "\udcff")])),
        ("content", lambda: requests.suffix_input(messages=[("user", "\udcff")])),
        ("before", lambda: requests.suffix_input(fim=("\udcff", ""))),
        ("mode", lambda: requests.suffix_input("x", mode="prepend")),  # type: ignore[arg-type]
        ("max_tokens", lambda: requests.decode_config(None, {"max_tokens": 1 << 40})),
        ("tokens", lambda: requests.decode_config(None, {"tokens": 1})),  # type: ignore[typeddict-unknown-key]
        ("token_ids", lambda: models.detokenize([-1 << 40], "")),
        ("model", lambda: sessions.open_session("", "\udcff", "", None)),
        ("workspace_root", lambda: sessions.open_session("/\udcff", "", "", None)),
    ],
)
def test_a_value_that_does_not_fit_is_named(field: str, build: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput) as raised:
        build()
    assert raised.value.violations[0].field == field


def test_roots_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert requests.absolute(".") == str(tmp_path)
    assert requests.absolute(Path("~/x")) == "/home/me/x"
    assert requests.absolute(None) == ""


def test_a_model_that_is_a_path_from_here_is_told_as_one_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.gguf").touch()
    Path("folder").mkdir()
    request: Any = sessions.open_session("", "here.gguf", "", None).request
    assert request.model == str(tmp_path / "here.gguf")
    assert requests.model_meant("./gone.gguf") == str(tmp_path / "gone.gguf")
    for name in ("", "gone.gguf", "folder", "smollm2", "scripted:x", str(tmp_path / "here.gguf"), "a\0b"):
        assert requests.model_meant(name) == name


def test_a_session_is_named_by_its_id_too() -> None:
    assert requests.session_name("7") == requests.session_name("sessions/7") == "sessions/7"
