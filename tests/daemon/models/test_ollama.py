"""Ollama's store, which names its files by what other files say: those may say anything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.daemon.models.discover import discover
from sessiond.daemon.models.found import FoundModel

Put = Callable[[Path], Path]
_DIGEST = "0123456789abcdef" * 4


def _found(home: Path, *folders: Path, env: Mapping[str, str] | None = None) -> list[FoundModel]:
    return discover(folders, env or {}, home)


def _names(home: Path, *folders: Path, env: Mapping[str, str] | None = None) -> list[str]:
    return [model.name for model in _found(home, *folders, env=env)]


def _manifest(store: Path, place: str, digest: object = f"sha256:{_DIGEST}") -> Path:
    path = store / "manifests" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "f" * 64, "size": 1},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": 1},
    ]
    path.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}))
    return path


def test_ollama(tmp_path: Path, put_model: Put, model_bytes: bytes) -> None:
    store = tmp_path / ".ollama/models"
    blob = put_model(store / "blobs" / f"sha256-{_DIGEST}")
    _manifest(store, "registry.ollama.ai/library/tiny/latest")
    assert _found(tmp_path) == [FoundModel("tiny:latest", str(blob), "ollama", len(model_bytes))]


def test_ollamas_other_names(tmp_path: Path, model_bytes: bytes) -> None:
    store = tmp_path / "store"
    (store / "blobs").mkdir(parents=True)
    places = {
        "registry.ollama.ai/library/tiny/0.5b": "tiny:0.5b",
        "registry.ollama.ai/me/mine/v1": "me/mine:v1",
        "hf.co/org/repo/Q4_0": "hf.co/org/repo:Q4_0",
    }
    for number, place in enumerate(places):
        digest = f"{number:064x}"
        (store / "blobs" / f"sha256-{digest}").write_bytes(model_bytes)
        _manifest(store, place, f"sha256:{digest}")
    assert sorted(_names(tmp_path, env={"OLLAMA_MODELS": str(store)})) == sorted(places.values())


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../secret",
        "sha256-" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63 + "/",
        "",
        None,
        7,
        "sha256:" + "a" * 64 + "\n",
        ["x"],
        {"a": 1},
        "sha256:" + "a" * 64,
    ],
)
def test_digests_that_are_none(tmp_path: Path, put_model: Put, digest: object) -> None:
    store = tmp_path / ".ollama/models"
    put_model(store / "secret")
    put_model(tmp_path / "secret")
    (store / "blobs").mkdir()
    _manifest(store, "registry.ollama.ai/library/tiny/latest", digest)
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[" * 60_000,
        b"null",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": [3, null, {}]}',
        b"\xff\xfe",
        b"9" * 50_000,
        b'{"layers": {"mediaType": "x"}}',
        b" " * 70_000 + b"{}",
    ],
)
def test_corrupt_manifests(tmp_path: Path, put_model: Put, manifest: bytes) -> None:
    store = tmp_path / ".ollama/models"
    put_model(store / "blobs" / f"sha256-{_DIGEST}")
    _manifest(store, "registry.ollama.ai/library/good/latest")
    _manifest(store, "registry.ollama.ai/library/bad/latest").write_bytes(manifest)
    assert _names(tmp_path) == ["good:latest"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    manifest=st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["layers", "digest", "mediaType"]), inner)
        ),
    )
)
def test_any_json_is_borne(tmp_path: Path, manifest: object) -> None:
    path = _manifest(tmp_path / ".ollama/models", "registry.ollama.ai/library/any/latest")
    path.write_text(json.dumps(manifest))
    assert _names(tmp_path) == []


def test_pipes_and_loops_do_not_stall(tmp_path: Path, put_model: Put) -> None:
    store = tmp_path / ".ollama/models"
    put_model(store / "blobs" / f"sha256-{_DIGEST}")
    tags = _manifest(store, "registry.ollama.ai/library/tiny/latest").parent
    os.mkfifo(tags / "pipe")
    (tags / "loop").symlink_to("loop")
    (tags.parent / "up").symlink_to("../..")
    folder = tmp_path / "models"
    folder.mkdir()
    os.mkfifo(folder / "pipe.gguf")
    (folder / "loop").symlink_to(".")
    (folder / "folder.gguf").mkdir()
    started = time.monotonic()
    assert _names(tmp_path, folder) == ["tiny:latest"]
    assert time.monotonic() - started < 5
