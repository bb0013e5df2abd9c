"""Each usual place, built as the programs build it, and broken as disks break it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sessiond.daemon.models import embedded, huggingface, llama_cache, scan
from sessiond.daemon.models.discover import discover
from sessiond.daemon.models.found import FoundModel, Surroundings

Put = Callable[[Path], Path]


def _found(home: Path, *folders: Path, env: Mapping[str, str] | None = None) -> list[FoundModel]:
    return discover(folders, env or {}, home)


def _names(home: Path, *folders: Path, env: Mapping[str, str] | None = None) -> list[str]:
    return [model.name for model in _found(home, *folders, env=env)]


def _hub_file(hub: Path, repository: str, revision: str, name: str, put: Put) -> Path:
    """A snapshot's file: a relative link to a blob."""
    blob = put(hub / repository / "blobs" / hashlib.sha256(f"{revision}/{name}".encode()).hexdigest())
    link = hub / repository / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def test_hugging_face(tmp_path: Path, put_model: Put, model_bytes: bytes) -> None:
    hub = tmp_path / ".cache/huggingface/hub"
    link = _hub_file(hub, "models--org--Tiny-GGUF", "b" * 40, "Tiny-Q4_0.gguf", put_model)
    _hub_file(hub, "models--org--Tiny-GGUF", "b" * 40, "mmproj-F16.gguf", put_model)
    _hub_file(hub, "models--org--Tiny-GGUF", "b" * 40, "Q8_0/Tiny-Q8_0.gguf", put_model)
    _hub_file(hub, "datasets--org--data", "b" * 40, "a.gguf", put_model)
    (hub / "models--org--empty").mkdir()
    (hub / "version.txt").write_text("1")
    found = _found(tmp_path)
    assert found[0] == FoundModel("org/Tiny-GGUF/Tiny-Q4_0", str(link), "huggingface", len(model_bytes))
    assert [model.name for model in found[1:]] == ["org/Tiny-GGUF/Tiny-Q8_0"]


def test_the_current_revision_counts(tmp_path: Path, put_model: Put) -> None:
    hub = tmp_path / "hub"
    for revision in ("aaa", "bbb", "ccc"):
        _hub_file(hub, "models--o--m", revision, "m.gguf", put_model)
    _hub_file(hub, "models--o--m", "aaa", "old.gguf", put_model)
    (hub / "models--o--m" / "refs").mkdir()
    (hub / "models--o--m" / "refs" / "main").write_text("bbb\n")
    found = _found(tmp_path, env={"HF_HOME": str(tmp_path)})
    assert [(model.name, "bbb" in model.absolute_path) for model in found] == [
        ("o/m/m", True),
        ("o/m/old", False),
    ]


def test_links_of_the_hub_stay_inside(tmp_path: Path, put_model: Put) -> None:
    hub, other = tmp_path / "hub", tmp_path / "other"
    put_model(other / "x.gguf")
    put_model(other / "snapshots" / "r" / "y.gguf")
    snapshot = hub / "models--o--m" / "snapshots" / "r"
    snapshot.mkdir(parents=True)
    (snapshot / "out.gguf").symlink_to(other / "x.gguf")
    (snapshot / "loop.gguf").symlink_to("loop.gguf")
    (snapshot / "gone.gguf").symlink_to("../../blobs/gone")
    (snapshot / "up").symlink_to("..")
    (hub / "models--o--linked").symlink_to(other)
    assert _names(tmp_path, env={"HF_HUB_CACHE": str(hub)}) == []
    put_model(snapshot / "plain.gguf")
    assert _names(tmp_path, env={"HF_HUB_CACHE": str(hub)}) == ["o/m/plain"]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/home/me/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/h/hub"),
        ({"HF_HUB_CACHE": "/x", "HF_HOME": "/h"}, "/x"),
        ({"HF_HUB_CACHE": "", "HF_HOME": ""}, "/home/me/.cache/huggingface/hub"),
    ],
)
def test_where_the_hub_is(env: dict[str, str], expected: str) -> None:
    assert huggingface.cache_folder(Surroundings(env, Path("/home/me"))) == Path(expected)


def test_lm_studio(tmp_path: Path, put_model: Put) -> None:
    put_model(tmp_path / ".lmstudio/models/pub/repo/Tiny.Q4_K_M.gguf")
    put_model(tmp_path / ".cache/lm-studio/models/pub/old/x.gguf")
    found = _found(tmp_path)
    assert [(model.name, model.source) for model in found] == [
        ("pub/repo/Tiny.Q4_K_M", "lmstudio"),
        ("pub/old/x", "lmstudio"),
    ]


def test_llama_cpp(tmp_path: Path, put_model: Put) -> None:
    put_model(tmp_path / "cache" / "org_repo_tiny.gguf")
    put_model(tmp_path / "cache" / "below" / "x.gguf")
    (tmp_path / "cache" / "org_repo_tiny.gguf.json").write_text("{}")
    assert _names(tmp_path, env={"LLAMA_CACHE": str(tmp_path / "cache")}) == ["org_repo_tiny"]
    default = llama_cache.cache_folder(Surroundings({}, Path("/home/me")))
    assert default == Path(
        "/home/me", *(("Library", "Caches") if sys.platform == "darwin" else (".cache",)), "llama.cpp"
    )


def test_configured_folders(tmp_path: Path, put_model: Put) -> None:
    folder = tmp_path / "models"
    put_model(folder / "b.gguf")
    put_model(folder / "deep" / "er" / "A.GGUF")
    put_model(folder / "other.bin")
    (folder / "text.gguf").write_text("GGU")
    (folder / "linked.gguf").symlink_to(put_model(tmp_path / "elsewhere.gguf"))
    found = _found(
        tmp_path, folder, tmp_path / "missing", tmp_path / "elsewhere.gguf", folder / "deep", Path("\0")
    )
    assert [(model.name, model.source) for model in found] == [
        ("b", "configured"),
        ("linked", "configured"),
        ("A", "configured"),
    ]


def test_a_split_model_is_one(tmp_path: Path, put_model: Put, model_bytes: bytes) -> None:
    folder = tmp_path / "models"
    for part in (1, 2, 3):
        put_model(folder / f"big-0000{part}-of-00003.gguf")
    put_model(folder / "torn-00002-of-00002.gguf")
    put_model(folder / "big-00001-of-00002.gguf")
    found = {model.absolute_path: (model.name, model.size_bytes) for model in _found(tmp_path, folder)}
    assert found == {
        str(folder / "big-00001-of-00003.gguf"): ("big", 3 * len(model_bytes)),
        str(folder / "big-00001-of-00002.gguf"): ("big", len(model_bytes)),
    }


def test_the_search_has_bounds(tmp_path: Path, put_model: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(tmp_path / "models" / "/".join("d" * 30) / "too_deep.gguf")
    for number in range(30):
        put_model(tmp_path / "many" / f"m{number}.gguf")
    assert _names(tmp_path, tmp_path / "models") == []
    monkeypatch.setattr(scan, "MAX_ENTRIES", 10)
    assert len(_names(tmp_path, tmp_path / "many")) <= 10


def test_a_file_in_two_places_is_told_once(tmp_path: Path, put_model: Put) -> None:
    hub = tmp_path / "hub"
    _hub_file(hub, "models--o--m", "r", "m.gguf", put_model)
    assert _names(tmp_path, hub, hub, env={"HF_HUB_CACHE": str(hub)}) == ["m"]


def test_names_that_are_no_text(tmp_path: Path, put_model: Put) -> None:
    try:
        put_model(tmp_path / "models" / os.fsdecode(b"caf\xe9") / "a.gguf")
    except OSError:
        pytest.skip("this file system takes no such name")
    put_model(tmp_path / "models" / "b\n.gguf")
    assert _names(tmp_path, tmp_path / "models") == []


def test_the_embedded_model_is_found_without_an_import(
    tmp_path: Path, put_model: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "a_package_with_a_model"
    path = put_model(package / "Some.Q4_1.gguf")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(embedded, "_PACKAGE", package.name)
    found = _found(tmp_path)
    assert [(model.name, model.absolute_path, model.source) for model in found] == [
        ("smollm2-135m-instruct", str(path), "embedded")
    ]
    assert package.name not in sys.modules


def test_nothing_anywhere(tmp_path: Path) -> None:
    assert _found(tmp_path) == []
    assert _found(tmp_path / "no home") == []
