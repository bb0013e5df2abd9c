"""Every side does the same work: the floor computes what is unavoidable, servers are told right, ours is held to its tokens."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.tiny_models import plain

from benchmark.classes import CLASSES, DEPTHS, SUFFIX, SUFFIXES, Desk, fitting, scenarios, window_of
from benchmark.day import files_of
from benchmark.floor import Floor
from benchmark.floor_loop import Ask, Caching, Loop, Setup, common
from benchmark.peer_server import DEFAULT, FULL, SPLIT, UNIFIED, LlamaServer
from benchmark.prompt_caching import STEPS, summed
from benchmark.sides import Event, Runtime, Work, perform
from benchmark.texts import Piece
from benchmark.took import NotMeasured
from benchmark.unix_http import Address, ServerError
from benchmark.versions import File, Version, Versions, token_hash


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        yield Path(name)


def runtime(model: Path | str = "model.gguf") -> Runtime:
    return Runtime(str(model), 512, 128, 1, 2, flash_attn=False, gpu_layers=None)


def version(*ids: int) -> Version:
    return Version({}, "", ids)


def piece(*ids: int) -> Piece:
    return Piece("", ids)


# ---- the floor

A, B = tuple(range(1, 101)), (*range(1, 51), *range(150, 200))


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[Floor]:
    model = tmp_path / "tiny.gguf"
    plain(model)
    side = Floor()
    side.like(runtime(model))
    side.begin(Work("test", 1000, 3))
    yield side
    side.close()


def counts(side: Floor, event: Event) -> tuple[int | None, int | None, int | None]:
    took = perform(side, event)
    assert took.first_token_ms > 0
    return took.prefilled_tokens, took.reused_tokens, took.restored_tokens


def test_the_floor_computes_what_nobody_could_have(floor: Floor) -> None:
    cold = Event(version(*A), (piece(7, 8),))
    assert counts(floor, cold) == (102, 0, 0)
    assert counts(floor, cold) == (1, 101, 0)  # the same again: one token, for its logits
    assert counts(floor, Event(version(*A), (piece(9, 8),))) == (2, 100, 0)
    assert counts(floor, Event(version(*B), (piece(7, 8),))) == (52, 50, 0)
    assert counts(floor, Event(version(*A), (piece(5, 5),))) == (2, 100, 0)  # undo
    assert counts(floor, Event(version(*A[:99], 9), (piece(5, 5),), think=True)) == (2, 100, 0)
    assert counts(floor, Event(version(*A), (piece(6, 5),), restart=True)) == (2, 0, 100)
    assert counts(floor, Event(version(*A), (piece(4, 5),))) == (2, 100, 0)


@pytest.mark.parametrize("kept_states", [0, 2])
def test_the_floor_computes_the_same_in_batches_of_any_size(tmp_path: Path, kept_states: int) -> None:
    model = tmp_path / "tiny.gguf"
    plain(model)
    runs = [(0, 0, A), (1, 0, A[:7]), (2, 0, B)]
    sampled = {
        size: Loop(Setup(replace(runtime(model), num_batch=size), 1000, 3, kept_states))._decode(runs)
        for size in (512, 40)
    }
    assert len(sampled[512]) == len(runs)
    assert sampled[40] == sampled[512]


def test_a_floor_that_keeps_no_states_restores_them_all_the_same(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    plain(model)
    loop, prefix = Loop(Setup(runtime(model), 1000, 2, kept_states=0)), A * 3
    ran = loop.run(Ask(prefix, ((7, 8),), 3, restore=True))
    assert (len(ran.streams), len(ran.streams[0]), len(loop._states)) == (1, 3, 0)
    assert loop._stands == (*prefix, 7, 8)


def test_the_floor_answers_many_at_once(floor: Floor) -> None:
    took = perform(floor, Event(version(*A), (piece(7, 8), piece(9), piece(3, 4, 5)), answer=4))
    assert took.prefilled_tokens == 100 + 6
    assert took.token_ms > 0
    took = perform(floor, Event(version(*A), (piece(1, 8), piece(2, 9), piece(3, 4, 6)), answer=4))
    assert (took.prefilled_tokens, took.reused_tokens) == (7, 300)


def test_the_prompt_caching_table_has_all_steps(floor: Floor) -> None:
    rows = summed(floor.caching(Caching(A, ((7, 8), (9,)), 4)))
    assert [row.name for row in rows] == list(STEPS)
    assert [row.times for row in rows] == [1, 1, 1, 2, 2, 2]
    by_name = {row.name: row for row in rows}
    assert by_name["eval"].tokens == by_name["load state"].tokens == 100
    assert by_name["save state"].size_bytes > 100
    # And what stood there before is not taken for what stands there now.
    assert counts(floor, Event(version(*B), (piece(7, 8),))) == (102, 0, 0)


@pytest.mark.parametrize("model", ["scripted-kv:", "none.gguf"])
def test_without_a_model_there_is_no_floor(model: str) -> None:
    side = Floor()
    side.like(runtime(model))
    with pytest.raises(NotMeasured, match="no file"):
        side.begin(Work("test", 100, 1))


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF and nothing else")
    side = Floor()
    side.like(runtime(wrong))
    with pytest.raises(NotMeasured, match="cannot be loaded"):
        side.begin(Work("test", 100, 1))


@pytest.mark.parametrize(
    ("a", "b", "shared"), [("", "", 0), ("ab", "ab", 2), ("abc", "abd", 2), ("a", "ab", 1)]
)
def test_common_beginnings(a: str, b: str, shared: int) -> None:
    assert common([ord(x) for x in a], [ord(x) for x in b]) == shared


# ---- versions and classes


class OneText:
    """Texts that are long enough, with a token for each character."""

    def take(self, tokens: int, unlike: object = ()) -> Piece:
        return Piece("x" * tokens, tuple(range(tokens)))


def versions() -> Versions:
    return Versions(OneText(), lambda text: [ord(char) for char in text])  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [128, 1000, 4001])
def test_a_version_has_its_depth_and_is_its_files(depth: int) -> None:
    made = versions().fresh(depth)
    assert len(made.ids) == depth
    assert made.text == "".join(chr(token) for token in made.ids)
    assert all(content.decode() in made.text for content in made.contents.values())
    assert [file.path for file in made.parts] == sorted(made.contents)


def test_an_edit_is_where_it_should_be_and_moves_nothing() -> None:
    maker = versions()
    before = maker.fresh(2000)
    share = {}
    for place in ("head", "middle", "tail"):
        after = maker.edited(before, place)
        assert len(after.ids) == len(before.ids)
        share[place] = common(before.ids, after.ids) / len(before.ids)
        assert sum(before.contents[path] != after.contents[path] for path in before.contents) == 1
    assert share["head"] < 0.05
    assert 0.4 < share["middle"] < 0.6
    assert share["tail"] > 0.9
    other = maker.branched(before)
    assert 0.2 < common(before.ids, other.ids) / len(before.ids) < 0.4


def test_two_fresh_versions_share_no_more_than_the_frame() -> None:
    maker = versions()
    assert common(maker.fresh(1000).ids, maker.fresh(1000).ids) <= len("=== ") + 2


def test_a_small_depth_has_one_file() -> None:
    made = versions().fresh(32)
    assert len(made.parts) == 1
    assert versions().edited(made, "middle").ids != made.ids


def test_tokens_are_hashed_as_the_contract_says() -> None:
    assert token_hash([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert token_hash([1]) == "67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450"


def test_a_files_number_is_all_that_an_edit_changes() -> None:
    one, other = File("a.py", 1, "body"), File("a.py", 2, "body")
    assert one.content == "# a.py 000001\nbody"
    assert len(one.framed) == len(other.framed)


def desk(depth: int = 1000) -> Desk:
    return Desk(depth, versions(), SUFFIXES, clients=3, answer=8)


@pytest.mark.parametrize("quick", [True, False])
def test_no_row_is_made_twice_and_every_row_is_filled(quick: bool) -> None:
    made = scenarios(desk(), list(CLASSES), quick=quick)
    keys = [row.key for scenario in made for row in scenario.rows]
    assert len(keys) == len(set(keys))
    for scenario in made:
        steps = list(scenario.steps())
        assert {row.key for row, _ in steps if row} == {row.key for row in scenario.rows}
        assert all(event.version.ids for _, event in steps) or scenario.kind != "cold"


def test_what_takes_longest_is_measured_at_the_least_depth_alone() -> None:
    def kinds(at: Desk) -> set[str]:
        return {scenario.kind for scenario in scenarios(at, list(CLASSES), quick=False)}

    assert kinds(desk()) - kinds(replace(desk(), deeper=True)) == {"crowd"}


def test_a_repeat_leaves_files_that_the_next_can_go_on_with() -> None:
    at = desk()
    for scenario in scenarios(at, list(CLASSES), quick=False):
        for _ in range(2):
            events = [event for _, event in scenario.steps()]
            assert at.version is events[-1].version or scenario.kind in {
                "suffix",
                "decode",
                "restart",
                "crowd",
            }
            assert at.version.ids == events[-1].version.ids


@pytest.mark.parametrize("depth", [*DEPTHS, 8000])
def test_only_suffixes_that_fit_are_tried(depth: int) -> None:
    for tokens in fitting(depth, 8192, 48):
        assert window_of(depth, [tokens], 48) <= 8192
    assert 1 in fitting(depth, 8192, 48) or depth == 8000
    assert fitting(9000, 8192, 48) == ()


# ---- llama-server


def test_defaults_are_left_alone_but_for_the_threads() -> None:
    told = DEFAULT.arguments(runtime(), Work("test", 1000, 8))
    assert told == ["-t", "1", "-tb", "2", "--no-ui", "--offline"]


@pytest.mark.parametrize(("variant", "flag"), [(UNIFIED, "--kv-unified"), (SPLIT, "--no-kv-unified")])
def test_the_clever_client_has_room_for_all(variant: Any, flag: str) -> None:
    told = variant.arguments(runtime(), Work("test", 1000, 8, 1000))
    assert flag in told
    assert told[told.index("-np") + 1] == "8"
    assert int(told[told.index("-c") + 1]) >= 8 * 1000
    assert len({variant.name for variant in FULL}) == len(FULL)


def test_a_server_that_does_not_start_is_not_measured(folder: Path) -> None:
    program = folder / "program"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 1\n")
    program.chmod(0o755)
    server = LlamaServer(program, UNIFIED, folder)
    server.like(runtime())
    with pytest.raises(NotMeasured, match="no such model"):
        server.begin(Work("test", 100, 2))
    server.close()


class _Answers(BaseHTTPRequestHandler):
    """Answers as llama-server does, and notes what it was asked."""

    asked: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - the server has one handler class

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, asked))
        self.send_response(200 if asked.get("prompt") != [0] else 500)
        self.end_headers()
        if self.path.startswith("/slots/"):
            self.wfile.write(b"{}")
            return
        count = len(asked["prompt"])
        for number in range(asked["n_predict"]):
            self.wfile.write(b'data: {"tokens": [%d], "stop": false}\n\n' % number)
        timings = {"prompt_n": 2, "cache_n": count - 2}
        self.wfile.write(
            b"data: " + json.dumps({"tokens": [], "stop": True, "timings": timings}).encode() + b"\n\n"
        )


@pytest.fixture
def answering(folder: Path) -> Iterator[Path]:
    """The socket of a server that speaks llama-server's protocol."""
    _Answers.asked.clear()
    path = folder / "s.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


def speaking(path: Path, variant: Any = UNIFIED) -> LlamaServer:
    """A side whose program is there already."""
    server = LlamaServer(path, variant, path.parent)
    server._address = Address(path)
    server._work = Work("test", 100, 3)
    return server


def test_a_turn_is_told_and_counted(answering: Path) -> None:
    took = perform(speaking(answering, DEFAULT), Event(version(*A), (piece(7, 8),), answer=3))
    assert (took.prefilled_tokens, took.reused_tokens, took.restored_tokens) == (2, 100, 0)
    assert took.token_ms > 0
    [(path, asked)] = _Answers.asked
    assert path == "/completion"
    assert asked["prompt"] == [*A, 7, 8]
    assert "id_slot" not in asked


def told() -> list[object]:
    """What the server was asked: an action, or for a slot and the length of its prompt."""
    return [
        path if path != "/completion" else (asked["id_slot"], len(asked["prompt"]))
        for path, asked in _Answers.asked
    ]


def test_the_clever_client_warms_saves_and_restores(answering: Path) -> None:
    server, a, b = speaking(answering, SPLIT), version(*A), version(*B)
    perform(server, Event(a, (piece(7, 8),), keep=True))
    perform(server, Event(a, (piece(7, 9),), client=1))
    perform(server, Event(b, (piece(7, 9),), think=True))
    undone = perform(server, Event(a, (piece(7, 7),)))
    perform(server, Event(a, (piece(7, 6),)))
    assert told() == [
        (0, 102),
        "/slots/0?action=save",
        "/slots/1?action=restore",
        (1, 102),
        (0, 100),  # the warm-up while somebody thinks
        (0, 102),
        "/slots/0?action=restore",
        (0, 102),
        (0, 102),
    ]
    assert (undone.reused_tokens, undone.restored_tokens) == (0, 100)


def test_slots_that_share_their_cells_hold_no_files_as_they_were(answering: Path) -> None:
    server, a, b = speaking(answering), version(*A), version(*B)
    perform(server, Event(a, (piece(7, 8), piece(7, 9), piece(7, 7))))
    perform(server, Event(a, (piece(7, 6),)))
    _Answers.asked.clear()
    perform(server, Event(b, (piece(7, 8),)))
    perform(server, Event(b, (piece(7, 9),)))
    assert told() == ["/slots/1?action=erase", "/slots/2?action=erase", (0, 102), (0, 102)]


def test_many_at_once_have_a_slot_each(answering: Path) -> None:
    took = perform(speaking(answering), Event(version(*A), (piece(1, 2), piece(3, 4)), answer=4))
    assert sorted(asked["id_slot"] for _, asked in _Answers.asked) == [0, 1]
    assert took.prefilled_tokens == 4


def test_a_refusal_is_not_measured(answering: Path) -> None:
    with pytest.raises(NotMeasured, match="500"):
        perform(speaking(answering), Event(version(), (piece(0),)))


def test_a_socket_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(ServerError, match="does not answer"):
        Address(folder / "none.sock").post("/", {}, 1.0)
    assert not Address(folder / "none.sock").answers("/health", 1.0)


# ---- the day


def test_files_of_a_folder_are_those_that_are_worked_on(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", ".git/HEAD", ".sessiond.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert files_of(tmp_path) == {"a.py": b"a.py", "sub/b.py": b"sub/b.py"}


def test_a_short_question_has_its_length() -> None:
    assert len(desk().question().ids) == SUFFIX
