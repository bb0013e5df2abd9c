"""What a client calls a model, and which file that is."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.daemon.models.found import FoundModel
from sessiond.daemon.models.resolve import resolve
from sessiond.v1.errors import InvalidInput

Put = Callable[[Path], Path]


@pytest.fixture
def found(tmp_path: Path, put_model: Put) -> list[FoundModel]:
    names = [
        ("smollm2-135m-instruct", "embedded"),
        ("org/Tiny-GGUF/Tiny-Q4_0", "huggingface"),
        ("org/Tiny-GGUF/Tiny-Q8_0", "huggingface"),
        ("qwen:0.5b", "ollama"),
        ("qwen:1.5b", "ollama"),
    ]
    return [
        FoundModel(name, str(put_model(tmp_path / "found" / f"{number}.gguf")), source, 1)
        for number, (name, source) in enumerate(names)
    ]


def _refused(model: str, found: list[FoundModel]) -> str:
    with pytest.raises(InvalidInput) as caught:
        resolve(model, found, "the default")
    assert [violation.field for violation in caught.value.violations] == ["model"]
    text = caught.value.violations[0].description
    assert len(text.encode()) < 6_000, "an error has to fit into a header"
    return text


def test_empty_is_the_default(found: list[FoundModel]) -> None:
    assert resolve("", found, "whatever it is") == "whatever it is"
    assert resolve("", [], "") == ""


@pytest.mark.parametrize(
    ("model", "index"),
    [
        ("smollm2-135m-instruct", 0),
        ("smollm2", 0),
        ("SmolLM2", 0),
        ("INSTRUCT", 0),
        ("org/Tiny-GGUF/Tiny-Q4_0", 1),
        ("tiny-q8_0", 2),
        ("Tiny-Q4", 1),
        ("Q8_0", 2),
        ("qwen:0.5b", 3),
        ("QWEN:1.5B", 4),
    ],
)
def test_names(found: list[FoundModel], model: str, index: int) -> None:
    assert resolve(model, found, "") == found[index].absolute_path


def test_several_that_match_are_told(found: list[FoundModel]) -> None:
    text = _refused("qwen", found)
    assert "qwen:0.5b" in text
    assert "qwen:1.5b" in text
    assert "Tiny" not in text
    twice = [*found, FoundModel("qwen:0.5b", found[0].absolute_path, "configured", 1)]
    assert "configured" in _refused("qwen:0.5b", twice)
    many = [FoundModel(f"x{number}" * 200, f"/{number}" * 200, "configured", 1) for number in range(100)]
    assert "92 more" in _refused("x", many)


def test_an_exact_name_wins_over_a_longer_one(found: list[FoundModel]) -> None:
    more = [*found, FoundModel("smollm2", found[3].absolute_path, "configured", 1)]
    assert resolve("smollm2", more, "") == found[3].absolute_path


def test_paths(
    tmp_path: Path, put_model: Put, found: list[FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_model(tmp_path / "here" / "smollm2")
    monkeypatch.chdir(path.parent)
    for model in (str(path), "./smollm2", "../here/smollm2", "smollm2", f"{tmp_path}/x/../here//smollm2"):
        assert resolve(model, found, "") == str(path)
    (path.parent / "link.gguf").symlink_to(path)
    assert resolve("link.gguf", [], "") == str(path.parent / "link.gguf")


def test_a_folder_does_not_hide_a_name(
    tmp_path: Path, found: list[FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("smollm2", found, "") == found[0].absolute_path
    assert "folder" in _refused("smollm2", [])
    assert "folder" in _refused("./smollm2", found)
    assert "folder" in _refused(".", found)


def test_schemes_pass_through(found: list[FoundModel]) -> None:
    schemes = {"scripted-kv", "scripted-prompt"}
    for model in ("scripted-kv:", "scripted-kv:echo", "scripted-prompt:a:b/../c"):
        assert resolve(model, found, "", schemes) == model
        _refused(model, found)
    assert resolve("qwen:0.5b", found, "", schemes) == found[3].absolute_path
    with pytest.raises(InvalidInput):
        resolve("scripted-kv", found, "", schemes)
    with pytest.raises(InvalidInput):
        resolve("scripted-kv:\0", found, "", schemes)


def _head(magic: bytes = b"GGUF", version: int = 3, tensors: int = 1, keys: int = 1) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, keys)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a GGUF"),
        (b"GGU", "not a GGUF"),
        (b"just some text, not a model at all", "not a GGUF"),
        (b"GGUF", "ends within"),
        (_head()[:-1], "ends within"),
        (_head(), "ends before"),
        (_head(version=1) + b"\0" * 99, "version 1"),
        (_head(version=4) + b"\0" * 99, "version 4"),
        (_head(version=0x03000000) + b"\0" * 99, "version"),
        (_head(tensors=0) + b"\0" * 99, "makes no sense"),
        (_head(keys=0) + b"\0" * 99, "makes no sense"),
        (_head(tensors=2**63) + b"\0" * 99, "makes no sense"),
        (_head(keys=2**64 - 1) + b"\0" * 99, "makes no sense"),
        (_head(keys=1000) + b"\0" * 99, "ends before"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    assert told in _refused(str(path), [])


def test_version_two_and_a_first_part_without_tensors_are_models(tmp_path: Path) -> None:
    (tmp_path / "two.gguf").write_bytes(_head(version=2) + b"\0" * 99)
    (tmp_path / "big-00001-of-00002.gguf").write_bytes(_head(tensors=0) + b"\0" * 99)
    for name in ("two.gguf", "big-00001-of-00002.gguf"):
        assert resolve(str(tmp_path / name), [], "") == str(tmp_path / name)


def test_what_is_no_file(tmp_path: Path, found: list[FoundModel], monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    started = time.monotonic()
    assert "no such file" in _refused(str(tmp_path / "missing.gguf"), found)
    assert "no such file" in _refused("no-such-model", found)
    assert "no such file" in _refused("missing.gguf", found)
    assert "not a regular file" in _refused(str(tmp_path / "pipe"), found)
    assert "cannot be read" in _refused(str(tmp_path / "loop"), found)
    assert "cannot be read" in _refused(f"{tmp_path}/{'x' * 300}", found)
    assert "folder" in _refused(str(tmp_path), found)
    _refused("/dev/null", found)
    _refused("/dev/zero", found)
    assert time.monotonic() - started < 5

    def refuse(*args: object, **named: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sessiond.daemon.models.gguf.os.open", refuse)
    assert "Permission denied" in _refused(found[0].absolute_path, found)


@pytest.mark.parametrize(
    "model",
    ["\0", "a\0b", "/x\0", "x" * 5_000, "/" + "x/" * 3_000, "é" * 4_096, "\ud800", "/\udcff", "~", " "],
)
def test_hostile_words(found: list[FoundModel], model: str) -> None:
    _refused(model, found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=st.text(min_size=1))
def test_any_word_means_a_found_model_or_is_refused(found: list[FoundModel], model: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert resolve(model, found, "") in {candidate.absolute_path for candidate in found}


def test_a_working_folder_that_is_gone(
    tmp_path: Path, found: list[FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert resolve("smollm2", found, "") == found[0].absolute_path
    _refused("./x.gguf", found)
