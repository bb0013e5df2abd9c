"""Whatever happens to the files: what comes back is right, or it is a miss and a line in the log."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import IDENTITY, SPACE, TOKEN_KV, Place, kv, tokens

from sessiond.daemon.engine.disk.folder import Folder
from sessiond.daemon.engine.disk.format import encode
from sessiond.daemon.engine.disk.keys import Chain, space

_RUN = tokens(700)


@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 200), st.integers(0, 2)), min_size=1, max_size=5)
)
@settings(deadline=None, max_examples=15)
def test_what_was_written_comes_back_also_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, branches: list[tuple[int, int, int]]
) -> None:
    place = Place(tmp_path_factory.mktemp("tier"))
    spaces = [
        SPACE,
        space(IDENTITY, "/home/b", "1000"),
        space({**IDENTITY, "x": "y"}, "/home/a/project", "1000"),
    ]
    all_tokens = [([*_RUN[:at], *tokens(count, at + 1)], spaces[which]) for at, count, which in branches]
    for run, where in all_tokens:
        assert all(place.keep(run, where))
        assert place.keep(run, where) == []
    backs = [place.back(run, where) for run, where in all_tokens]
    assert all(back > len(run) - 16 for back, (run, _) in zip(backs, all_tokens, strict=True))
    place = place.again()
    assert [place.back(run, where) for run, where in all_tokens] == backs
    counts = place.store.counts
    assert (counts.damaged, counts.missed) == (0, 0) and place.said == []


def test_an_entry_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    runs = place.missing(_RUN)
    for _ in range(3):
        assert all(place.store.put(run, kv(SPACE, _RUN, run.start, run.end)) for run in runs)
    counts = place.store.counts
    assert (counts.written, counts.kv_bytes) == (3, 700 * TOKEN_KV)
    assert counts.file_bytes == sum(path.stat().st_size for path in place.files())


def test_an_entry_of_another_identity_under_the_right_name_is_a_miss(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    others = [
        space({**IDENTITY, "model_digest": "n" * 64}, "/home/a/project", "1000"),
        space(IDENTITY, "/home/b/project", "1000"),
    ]
    labels = [found.entry.label for found in place.ahead(_RUN)]
    for label, other in zip(labels, others, strict=False):
        chain = Chain(other, _RUN)
        forged = type(label)(
            other.salt, chain.key(label.start), chain.key(label.end), label.start, label.tokens
        )
        payload = kv(other, _RUN, label.start, label.end)
        (place.path / "entries" / label.name).write_bytes(b"".join(encode(forged, other.fields, payload)))
    # The right salt and the wrong identity: only the fields can tell.
    last = place.path / "entries" / labels[2].name
    last.write_bytes(
        b"".join(encode(labels[2], others[0].fields, kv(SPACE, _RUN, labels[2].start, labels[2].end)))
    )
    assert place.back(_RUN) == 0
    assert place.store.counts.damaged == 3 and place.files() == []
    assert place.keep(_RUN) == [True] * 3 and place.back(_RUN) == 700


def test_the_same_forgeries_are_a_miss_after_a_restart(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    label = place.ahead(_RUN)[2].entry.label
    other = space({**IDENTITY, "model_digest": "n" * 64}, "/home/a/project", "1000")
    forged = b"".join(encode(label, other.fields, kv(SPACE, _RUN, label.start, label.end)))
    (place.path / "entries" / label.name).write_bytes(forged)
    place = place.again()
    assert place.back(_RUN) == 512 and "another identity" in place.said[-1]


@pytest.mark.parametrize("at", range(0, 2400, 97))
def test_a_flipped_byte_on_the_disk_is_a_miss(tmp_path: Path, at: int) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN[:64])
    [path] = place.files()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.write_bytes(data)
    if at % 2:
        place = place.again()
    assert place.back(_RUN[:64]) == 0 and not path.exists()
    assert [line for line in place.said if "is removed" in line]
    assert place.keep(_RUN[:64]) == [True] and place.back(_RUN[:64]) == 64


def test_a_file_that_is_gone_is_a_miss_and_is_not_tried_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    for path in place.files():
        path.unlink()
    assert place.back(_RUN) == 0 and place.ahead(_RUN) == []
    assert place.keep(_RUN) == [True] * 3 and place.back(_RUN) == 700


@pytest.mark.parametrize("payload", [b"", "no bytes"])
def test_what_cannot_be_written_is_not_on_its_way_for_ever(tmp_path: Path, payload: bytes) -> None:
    place = Place(tmp_path / "tier")
    [run] = place.missing(_RUN[:100])
    with contextlib.suppress(TypeError):
        assert not place.store.put(run, payload)
    assert place.missing(_RUN[:100]) != [] and place.keep(_RUN[:100]) == [True]


def test_a_position_that_the_format_has_no_number_for_is_no_entry(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    [run] = place.missing(_RUN[:100])
    far = replace(run, label=replace(run.label, start=1 << 32))
    assert not place.store.put(far, b"KV") and "cannot begin" in place.said[0]
    assert not place.store.catalogue.holds(far.label.name)


def test_a_start_that_fails_lets_go_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "files", _no_memory)
        with pytest.raises(MemoryError):
            Place(tmp_path / "tier")
    assert Place(tmp_path / "tier").keep(_RUN) == [True] * 3


def _no_memory(_folder: Folder) -> None:
    raise MemoryError
