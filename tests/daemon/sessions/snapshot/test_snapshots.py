"""Sessions that are saved and restored: bit for bit what they were, and never what only looks like it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.adapters import tiny_models
from tests.daemon.sessions.snapshot.desk import Desk, answer, folder_at, logits
from tests.daemon.sessions.snapshot.made import whole

from sessiond.adapters.base import LoraSettings, ModelSettings
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.daemon.engine.disk.keys import pack
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.sessions.fim import FimRequest
from sessiond.daemon.sessions.prefix import build_prefix
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot import format as form
from sessiond.daemon.sessions.snapshot import texts
from sessiond.daemon.sessions.snapshot.reading import Reading
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import (
    ContextOverflow,
    InvalidInput,
    ManifestMismatch,
    SessionBusy,
    SessionClosed,
    SessionFatal,
    SessionUnavailable,
    UnsupportedFeature,
)

TEXTS = ("AAAA" * 20, "BB the é" * 30)
"""Of segments: some hundred tokens, so that there are several pieces."""


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk, None]:
    made = Desk(folder_at(tmp_path / "one"))
    yield made
    await made.registry.stop()


@pytest_asyncio.fixture
async def elsewhere(tmp_path: Path) -> AsyncGenerator[Desk, None]:
    """Another machine."""
    made = Desk(folder_at(tmp_path / "two"))
    yield made
    await made.registry.stop()


async def _grown(session: Session, *texts: str) -> Session:
    """With a prefix, a suffix and an answer."""
    segments = tuple(Segment(f"s{i}", "file", text, f"s{i}") for i, text in enumerate(texts or TEXTS))
    await session.ensure_prefix(PrefixRequest(segments), Timings())
    await session.prefill_suffix(SuffixRequest("what is it?"), Timings())
    await answer(session)
    return session


async def _until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 - asked of the session and of the disk themselves
        await asyncio.sleep(0.001)


def _same(one: Session, two: Session) -> bool:
    a, b = one.report(), two.report()
    return (one.tokens, a.manifest, a.left_out, a.suffix_tokens, a.stable_token_hash) == (
        *(two.tokens, b.manifest, b.left_out, b.suffix_tokens, b.stable_token_hash),
    )


def _again(path: Path, change: Callable[[form.Header], form.Header], swap: Path | None = None) -> None:
    """Forge: another header, or the KV of another snapshot, under checksums that are right."""
    header, payloads, seal = _parts(path)
    path.write_bytes(whole(change(header), payloads if swap is None else _parts(swap)[1], seal))


def _parts(path: Path) -> tuple[form.Header, list[tuple[int, int, bytes]], bytes]:
    reading = Reading(path)
    reading.open()
    header = reading.header()
    payloads: list[tuple[int, int, bytes]] = []
    at = 0
    while at < header.count:
        piece = reading.piece(at, header.count, 1 << 16)
        payloads.append((piece.start, piece.end - piece.start, reading.payload(piece)))
        at = piece.end
    seal = reading.seal()
    reading.close()
    return header, payloads, seal


@pytest.mark.parametrize("prompt_format", ["raw", "chatml"])
@pytest.mark.parametrize("deterministic", [False, True])
async def test_a_session_is_what_it_was(
    desk: Desk, elsewhere: Desk, deterministic: bool, prompt_format: str
) -> None:
    kind: dict[str, Any] = {"deterministic": deterministic, "prompt_format": prompt_format}
    saved = await _grown(await desk.open(**kind))
    path = await desk.save(saved)
    wanted = await logits(desk, saved)
    for there in (desk, elsewhere):
        session = await there.open(**kind)
        restored = await there.snapshots.restore(session, path)
        assert (restored.tokens, restored.computed) == (len(saved.tokens), 0)
        assert restored.apart == (there is elsewhere)
        assert session.resident_tokens == len(saved.tokens) and _same(session, saved)
        assert await logits(there, session) == wanted
        status = await session.prefill_suffix(SuffixRequest("x"), Timings())
        assert (status.prefilled_tokens, status.reused_tokens) == (status.suffix_tokens, 0)
    other = await elsewhere.open(**kind)
    await elsewhere.snapshots.restore(other, path)
    assert await answer(other) == await answer(saved)


@pytest.mark.model
@pytest.mark.parametrize("deterministic", [False, True])
async def test_a_session_over_llama_cpp_is_what_it_was(
    desk: Desk, elsewhere: Desk, deterministic: bool, tmp_path: Path
) -> None:
    tiny_models.plain(tmp_path / "m.gguf")
    kind: dict[str, Any] = {"model": str(tmp_path / "m.gguf"), "deterministic": deterministic, "num_ctx": 512}
    saved = await _grown(await desk.open(**kind), "def path(name):\n" * 20, "    return self\n" * 10)
    path = await desk.save(saved)
    session = await elsewhere.open(**kind)
    restored = await elsewhere.snapshots.restore(session, path)
    assert (restored.computed, restored.apart) == (0, True) and _same(session, saved)
    if deterministic:
        assert await logits(elsewhere, session) == await logits(desk, saved)
    assert await answer(session) == await answer(saved)


@pytest.mark.model
async def test_a_hybrid_model_has_no_snapshots(desk: Desk, tmp_path: Path) -> None:
    tiny_models.hybrid(tmp_path / "m.gguf")
    session = await desk.open(str(tmp_path / "m.gguf"), num_ctx=128)
    with pytest.raises(UnsupportedFeature, match="snapshot"):
        await desk.save(session)


async def test_a_fill_in_the_middle_stays_one(desk: Desk) -> None:
    """No message can follow it, and it can be replaced."""
    one, two = [await desk.open("scripted-kv:fim", prompt_format="") for _ in range(2)]
    await one.ensure_prefix(PrefixRequest((Segment("s", "file", "AAAA", "s"),)), Timings())
    fill = SuffixRequest(fim=FimRequest("x = ", "\n"))
    await one.prefill_suffix(fill, Timings())
    await answer(one)
    await desk.snapshots.restore(two, await desk.save(one))
    assert _same(one, two)
    with pytest.raises(InvalidInput):
        await two.prefill_suffix(SuffixRequest("and?"), Timings())
    await two.prefill_suffix(SuffixRequest("and?", replace=True), Timings())


async def test_an_empty_session_is_one_too(desk: Desk) -> None:
    path = await desk.save(await desk.open())
    session = await _grown(await desk.open())
    await desk.snapshots.restore(session, path)
    assert session.tokens == [] and session.report().manifest.segments == ()
    assert len(await answer(await _grown(session))) > 0


async def test_what_was_saved_may_go_on_and_so_may_what_is_restored(desk: Desk) -> None:
    saved = await _grown(await desk.open())
    path, before = await desk.save(saved), saved.tokens
    await _grown(saved, "CCCC")
    session = await desk.open()
    await desk.snapshots.restore(session, path)
    assert session.tokens == before
    await desk.snapshots.restore(saved, path)  # an undo of all that came since
    assert saved.tokens == before and await answer(saved) == await answer(session)
    fork = await desk.registry.fork(session.name, "fork")
    assert await logits(desk, fork) == await logits(desk, session)


async def test_where_there_are_other_cells_the_kv_is_computed(desk: Desk) -> None:
    saved = await _grown(await desk.open())
    path = await desk.save(saved)
    session = await desk.open(num_ctx=1024)
    restored = await desk.snapshots.restore(session, path)
    assert (restored.computed, restored.apart) == (len(saved.tokens), False)
    assert _same(session, saved) and await logits(desk, session) == await logits(desk, saved)


async def test_what_does_not_fit_is_refused(desk: Desk) -> None:
    path = await desk.save(await _grown(await desk.open()))
    session = await _grown(await desk.open(num_ctx=64), "CC")
    before = session.tokens
    with pytest.raises(ContextOverflow) as caught:
        await desk.snapshots.restore(session, path)
    assert (caught.value.stage, caught.value.num_ctx) == ("restore", 64)
    assert session.tokens == before and session.state == "ready"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ({"model": "scripted-kv:weights=other"}, {"model_digest"}),
        ({"prompt_format": "chatml"}, {"prompt_format", "prompt_template_digest"}),
        ({"deterministic": True}, {"runtime_digest"}),
        ({"model": "scripted-kv:bos"}, {"add_bos", "model_digest", "tokenizer_digest"}),
    ],
    ids=["model", "format", "settings", "bos"],
)
async def test_another_identity_is_named_field_by_field(
    desk: Desk, kind: dict[str, Any], fields: set[str]
) -> None:
    path = await desk.save(await _grown(await desk.open()))
    session = await desk.open(**kind)
    with pytest.raises(ManifestMismatch) as caught:
        await desk.snapshots.restore(session, path)
    told = {field.name: (field.expected, field.actual) for field in caught.value.fields}
    assert told.keys() == fields
    assert all(expected != actual for expected, actual in told.values())
    assert session.tokens == []


def _of_other_text(header: form.Header) -> form.Header:
    first, *rest = header.segments
    return replace(header, segments=(replace(first, text=first.text.replace("A", "C")), *rest))


def _of_other_tokens(header: form.Header) -> form.Header:
    return replace(header, tokens=pack([67]) + header.tokens[4:])


def _of_unknown_tokens(header: form.Header) -> form.Header:
    return replace(header, tokens=header.tokens[:-4] + pack([1 << 31]))


def _of_another_manifest(header: form.Header) -> form.Header:
    return replace(header, manifest_digest=bytes(32))


def _with_another_path(header: form.Header) -> form.Header:
    first, *rest = header.segments
    return replace(header, segments=(replace(first, path="elsewhere.py"), *rest))


def _of_a_longer_prefix(header: form.Header) -> form.Header:
    return replace(header, prefix_tokens=header.prefix_tokens + 1)


@pytest.mark.parametrize(
    "forge",
    [
        _of_other_text,
        _of_other_tokens,
        _of_unknown_tokens,
        _of_another_manifest,
        _with_another_path,
        _of_a_longer_prefix,
    ],
)
async def test_a_text_does_not_stand_for_other_tokens(
    desk: Desk, forge: Callable[[form.Header], form.Header]
) -> None:
    path = await desk.save(await _grown(await desk.open()))
    _again(path, forge)
    session = await _grown(await desk.open(), "CC")
    before, wanted = session.tokens, await logits(desk, session)
    with pytest.raises(InvalidInput) as caught:
        await desk.snapshots.restore(session, path)
    assert [violation.field for violation in caught.value.violations] == ["path"]
    assert session.tokens == before and await logits(desk, session) == wanted


@pytest.mark.parametrize("count", [1, 100])
async def test_texts_make_no_more_tokens_than_they_claim(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """They are not even made."""
    monkeypatch.setattr(texts, "AT_ONCE", 512)
    session = await desk.open()
    path = await desk.save(await _grown(session))
    claimed = _parts(path)[0].prefix_tokens
    text = "ab" * (15_000 // count)
    more = tuple(Segment(f"more{index}", "text", f"{index} {text}") for index in range(count))
    _again(path, lambda header: replace(header, segments=header.segments + more))
    made, tokenize = list[int](), Engine.tokenize

    async def counted(engine: Engine, asked: list[str], *, parse_special: bool = False) -> list[list[int]]:
        found = await tokenize(engine, asked, parse_special=parse_special)
        made.extend(map(len, found))
        return found

    monkeypatch.setattr(Engine, "tokenize", counted)
    with pytest.raises(InvalidInput, match="not those of its texts"):
        await desk.snapshots.restore(session, path)
    assert claimed < sum(made) <= (2 if count == 1 else 1) * claimed + 512


async def test_a_text_that_is_longer_than_its_tokens_is_not_tokenized(desk: Desk) -> None:
    session = await desk.open()
    path = await desk.save(await _grown(session))
    long = "a" * (texts.LONGEST_TOKEN * _parts(path)[0].prefix_tokens)
    _again(path, lambda header: replace(header, segments=(Segment("long", "text", long), *header.segments)))
    with pytest.raises(InvalidInput, match="longer than its tokens"):
        await desk.snapshots.restore(session, path)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "s1"},
        {"id": ""},
        {"id": "frame"},
        {"kind": "frame"},
        {"path": "/etc/passwd"},
        {"path": "a/../../b"},
    ],
    ids=lambda change: " ".join(f"{name} {value}" for name, value in change.items()),
)
async def test_segments_that_no_client_could_give_are_refused(desk: Desk, change: dict[str, Any]) -> None:
    """Their manifest is right. One with a frame that is none could be saved again, and never be restored."""
    session = await _grown(await desk.open())
    path, before = await desk.save(session), session.report()
    header = _parts(path)[0]
    segments = (replace(header.segments[0], **change), *header.segments[1:])
    prefix = await build_prefix(session.engine, session.identity, "raw", segments, header.left_out)
    digest = bytes.fromhex(prefix.manifest.digest)
    _again(path, lambda header: replace(header, segments=segments, manifest_digest=digest))
    with pytest.raises(InvalidInput, match="of a segment"):
        await desk.snapshots.restore(session, path)
    assert session.report() == before


async def test_forged_kv_reaches_nobody_else(desk: Desk) -> None:
    honest = await _grown(await desk.open())
    path, wanted = await desk.save(honest), await logits(desk, honest)
    others = await desk.save(await _grown(await desk.open(), "CCCC" * 20, "DD the é" * 30), "others")
    _again(path, lambda header: header, others)
    session = honest
    for _ in range(2):  # the second time from what was saved of the first
        session = await desk.open()
        restored = await desk.snapshots.restore(session, path)
        assert restored.apart
        assert await logits(desk, session) != wanted, "the KV is forged, or this test shows nothing"
        path = await desk.save(session, "washed")
    fork = await desk.registry.fork(session.name, "fork")
    assert await logits(desk, fork) != wanted
    again = await _grown(await desk.open())
    assert await logits(desk, again) == await logits(desk, honest) == wanted
    for each in (session, fork):
        await each.close()
    assert len(desk.registry.memory.records()) == 2, "of the first forged session, and of all honest ones"


@pytest.mark.parametrize("num_cells", ["same", "others"])
@pytest.mark.parametrize("forked", [False, True])
async def test_what_is_ours_is_not_answered_from_what_was_forged(
    desk: Desk, num_cells: str, forked: bool
) -> None:
    """Its tokens stand where the session is, with KV that is forged."""
    honest = await _grown(await desk.open())
    path, wanted = await desk.save(honest), await logits(desk, honest)
    others = await desk.save(await _grown(await desk.open(), "CCCC" * 20, "DD the é" * 30), "others")
    forged = desk.folder / "forged"
    forged.write_bytes(whole(_parts(path)[0], _parts(others)[1]))
    if num_cells == "others":  # without KV that could be taken over
        path = await desk.save(await _grown(await desk.open(num_ctx=1024)), "wide")
    session = await desk.open()
    assert (await desk.snapshots.restore(session, forged)).apart
    assert await logits(desk, session) != wanted, "the KV is forged, or this test shows nothing"
    if forked:
        session = await desk.registry.fork(session.name, "fork")
    assert not (await desk.snapshots.restore(session, path)).apart
    assert await logits(desk, session) == wanted
    assert session.home == honest.home


async def test_kv_of_another_workspace_stands_apart(desk: Desk, tmp_path: Path) -> None:
    roots = [folder_at(tmp_path / name) for name in ("a", "b")]
    path = await desk.save(await _grown(await desk.open(root=roots[0])))
    assert not (await desk.snapshots.restore(await desk.open(root=roots[0]), path)).apart
    assert (await desk.snapshots.restore(await desk.open(root=roots[1]), path)).apart
    assert (await desk.snapshots.restore(await desk.open(), path)).apart


async def test_every_truncation_leaves_the_session_as_it_was(desk: Desk) -> None:
    path = await desk.save(await _grown(await desk.open()))
    data = path.read_bytes()
    session = await _grown(await desk.open(), "CC")
    before = session.report()
    header, pieces, _ = _parts(path)
    front = len(form.front(header))
    borders = {0, 8, 16, front - 32, front, len(data) - 72, len(data) - 40, len(data) - 8}
    at = front
    for _start, _count, payload in pieces:
        borders |= {at, at + 12, at + 12 + len(payload), at + 12 + len(payload) + 32}
        at += 12 + len(payload) + 32
    for size in sorted({max(0, border + by) for border in borders for by in (-1, 0, 1)} - {len(data)}):
        path.write_bytes(data[:size] if size < len(data) else data + b"\0")
        with pytest.raises(InvalidInput):
            await desk.snapshots.restore(session, path)
        assert session.report() == before
    path.write_bytes(data)
    await desk.snapshots.restore(session, path)


async def test_flipped_bits_leave_the_session_as_it_was(desk: Desk) -> None:
    path = await desk.save(await _grown(await desk.open()))
    data = path.read_bytes()
    session = await _grown(await desk.open(), "CC")
    before = session.report()
    for at in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(InvalidInput):
            await desk.snapshots.restore(session, path)
        assert session.report() == before


@pytest.mark.parametrize("payload", [b"x", bytes(1 << 20)])
async def test_kv_that_the_backend_refuses_leaves_the_session_as_it_was(desk: Desk, payload: bytes) -> None:
    path = await desk.save(await _grown(await desk.open()))
    header, pieces, seal = _parts(path)
    path.write_bytes(whole(header, [(at, count, payload) for at, count, _ in pieces], seal))
    session = await _grown(await desk.open(), "CC")
    before = session.report()
    with pytest.raises(InvalidInput, match="backend refused"):
        await desk.snapshots.restore(session, path)
    assert session.report() == before
    assert len(desk.registry.memory.records()) == 1, "the arena of the refused KV is gone"


async def test_one_turn_at_a_time(desk: Desk) -> None:
    session = await _grown(await desk.open("scripted-kv:step_ms=20"))
    path = await desk.save(session)
    answering = asyncio.create_task(answer(session, 100))
    await _until(lambda: session.state == "busy")
    for act in (desk.save(session, "t"), desk.snapshots.restore(session, path)):
        with pytest.raises(SessionBusy):
            await act
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert sorted(each.name for each in desk.folder.iterdir()) == ["s", "snapshot.key"]


async def test_a_cancelled_restore_has_happened_or_has_not(desk: Desk, elsewhere: Desk) -> None:
    saved = await _grown(await desk.open())
    path = await desk.save(saved)
    outcomes = set[bool]()
    for wait in range(0, 60, 2):
        session = await _grown(await elsewhere.open(), "CC")
        before = session.tokens
        task = asyncio.create_task(elsewhere.snapshots.restore(session, path))
        for _ in range(wait * wait):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outcomes.add(session.tokens == saved.tokens)
        assert session.tokens in (before, saved.tokens) and session.state == "ready"
        fork = await elsewhere.registry.fork(session.name, f"fork {wait}")
        assert await logits(elsewhere, fork) == await logits(elsewhere, session)
        for each in (fork, session):
            await elsewhere.registry.close(each.name)
        # A branch whose opening was under way is closed behind it.
        await _until(lambda: elsewhere.registry.memory.records() == [])
        assert (await session.engine.check()).residence == {}
    assert False in outcomes


async def test_a_cancelled_save_leaves_nothing(desk: Desk) -> None:
    session = await _grown(await desk.open())
    for wait in range(0, 40, 2):
        task = asyncio.create_task(desk.snapshots.save(session, desk.folder / "s"))
        for _ in range(wait * wait):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert {each.name for each in desk.folder.iterdir()} <= {"s", "snapshot.key"}
        if (desk.folder / "s").exists():
            await desk.snapshots.restore(session, desk.folder / "s")
        checked = await session.engine.check()
        assert checked.residence.keys() == {session.branch.name}


async def test_a_session_that_is_closed_meanwhile_ends_it(desk: Desk, elsewhere: Desk) -> None:
    path = await desk.save(await _grown(await desk.open()))
    for wait in range(0, 50, 5):
        session = await elsewhere.open()
        task = asyncio.create_task(elsewhere.snapshots.restore(session, path))
        for _ in range(wait * wait):
            await asyncio.sleep(0)
        await elsewhere.registry.close(session.name)
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(outcome, BaseException) or isinstance(outcome, SessionClosed), repr(outcome)
        await _until(lambda: elsewhere.registry.memory.records() == [])


SLOW: dict[str, Any] = {"model": "scripted-kv:step_ms=500", "num_batch": 1, "num_ubatch": 1}
"""Each token takes so long that no test could wait for all of them."""


async def _end(desk: Desk, session: Session, how: str) -> type[Exception]:
    if how == "lost":
        session.lose("for the test")
        return SessionFatal
    await desk.registry.close(session.name)
    return SessionClosed


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_a_restore_does_not_outlive_its_session(desk: Desk, elsewhere: Desk, how: str) -> None:
    path = await desk.save(await _grown(await desk.open()))
    session = await elsewhere.open(**SLOW, num_ctx=1024)  # with other cells, so that all is computed
    task = asyncio.create_task(elsewhere.snapshots.restore(session, path))
    await _until(lambda: (now := session.report().busy) is not None and now.done_tokens > 0)
    why = await _end(elsewhere, session, how)
    with pytest.raises(why):
        await task
    assert (await session.engine.check()).residence.keys() <= {session.branch.name}


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_a_save_does_not_outlive_its_session(desk: Desk, elsewhere: Desk, how: str) -> None:
    path = await desk.save(await _grown(await desk.open()))
    session = await elsewhere.open(**SLOW)
    await elsewhere.snapshots.restore(session, path)
    first = session.engine.process
    first.kill(signal.SIGKILL)
    task = asyncio.create_task(elsewhere.snapshots.save(session, elsewhere.folder / "s"))
    # The next engine has to compute what it saves.
    await _until(
        lambda: (
            session.engine.process is not first
            and any(each.stat().st_size for each in elsewhere.folder.glob(".*.snapshot"))
        )
    )
    why = await _end(elsewhere, session, how)
    with pytest.raises(why):
        await task
    assert [each.name for each in elsewhere.folder.iterdir()] == ["snapshot.key"]


async def test_an_engine_that_dies_meanwhile_leaves_no_file(desk: Desk) -> None:
    session = await _grown(await desk.open("scripted-kv:step_ms=100"))
    before, first = session.tokens, session.engine.process
    first.kill(signal.SIGKILL)
    task = asyncio.create_task(desk.save(session))
    # The next engine has to compute what it saves, and dies at that.
    await _until(
        lambda: (
            session.engine.process is not first and any(each.stat().st_size for each in desk.folder.iterdir())
        )
    )
    session.engine.process.kill(signal.SIGKILL)
    with pytest.raises(SessionUnavailable, match="died while a snapshot was written"):
        await task
    assert list(desk.folder.iterdir()) == []
    assert session.tokens == before
    await desk.save(session)


async def test_the_next_engine_s_cells_are_those_that_a_file_is_bound_to(desk: Desk) -> None:
    session, memory = await _grown(await desk.open()), desk.registry.memory
    cells = 600
    memory.available = lambda: memory.reserve + cells * CELL_BYTES
    session.engine.process.kill(signal.SIGKILL)
    await session.engine.process._watch
    header, *_ = _parts(await desk.save(session))
    [record] = memory.records()
    assert (record.cells, header.identity["num_cells"]) == (cells, str(cells))
    assert (await session.engine.check()).residence.keys() == {session.id}  # nothing is left of what saved it


async def test_an_engine_that_dies_of_a_restore_leaves_the_session(desk: Desk) -> None:
    path = await desk.save(await _grown(await desk.open("scripted-kv:step_ms=20")))
    session = await _grown(await desk.open("scripted-kv:step_ms=20", num_ctx=1024), "CC")
    before = session.tokens
    task = asyncio.create_task(desk.snapshots.restore(session, path))
    await _until(lambda: (now := session.report().busy) is not None and now.done_tokens > 0)
    session.engine.process.kill(signal.SIGKILL)
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert not isinstance(outcome, BaseException) or isinstance(outcome, SessionUnavailable), repr(outcome)
    assert session.state == "ready"
    assert (session.tokens == before) == isinstance(outcome, SessionUnavailable)
    assert len(await answer(session)) > 0


async def test_low_rank_adapters_are_known_by_their_path_alone(desk: Desk) -> None:
    session = await desk.open(loading=ModelSettings(loras=(LoraSettings("/a.gguf"),)))
    for act in (desk.save(session), desk.snapshots.restore(session, desk.folder / "s")):
        with pytest.raises(UnsupportedFeature, match="snapshot"):
            await act


@pytest.mark.parametrize("model", ["scripted-kv:no_truncate", "scripted-prompt:"])
async def test_where_kv_cannot_be_carried_that_is_said(desk: Desk, model: str) -> None:
    session = await desk.open(model)
    for act in (desk.save(session), desk.snapshots.restore(session, desk.folder / "s")):
        with pytest.raises(UnsupportedFeature, match="snapshot"):
            await act
