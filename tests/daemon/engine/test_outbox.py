"""What an engine tells the daemon: all of it, in order, and in no more pieces than somebody needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.outbox import BREATH_S, MOST_TOGETHER, TOGETHER_S, Outbox


@dataclass
class Desk:
    """An outbox over a real socket, and its clock."""

    now: float = 100.0
    lost: list[bool] = field(default_factory=list[bool])

    def __post_init__(self) -> None:
        self.theirs, self.ours = socket.socketpair()
        self.theirs.setblocking(False)
        self.outbox = Outbox(self.ours, lambda: self.lost.append(True), lambda: self.now)

    def heard(self) -> list[wire.AnyEvent]:
        """What has arrived since the last look."""
        try:
            data = self.theirs.recv(1 << 20)
        except BlockingIOError:
            return []
        found: list[wire.AnyEvent] = []
        while data:
            size = wire.PREFIX.size + wire.PREFIX.unpack(data[: wire.PREFIX.size])[0]
            found.append(wire.decode_event(data[wire.PREFIX.size : size]))
            data = data[size:]
        return found

    def close(self) -> None:
        """Both ends."""
        self.theirs.close()
        self.ours.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One."""
    made = Desk()
    yield made
    made.close()


def piece(command: int, token: int, text: str = "x") -> wire.Piece:
    return wire.Piece(command, text, [token])


DONE = wire.Done(7, wire.Nothing())


def test_what_is_kept_goes_out_at_the_next_turn(desk: Desk) -> None:
    desk.outbox.keep(piece(7, 1))
    assert desk.heard() == []
    desk.outbox.flush_due()
    assert desk.heard() == [piece(7, 1)]


def test_what_follows_fast_waits_and_comes_as_one(desk: Desk) -> None:
    desk.outbox.send(piece(7, 1))
    for token in (2, 3):
        desk.outbox.add(piece(7, token))
        desk.outbox.flush_due()
    assert desk.heard() == [piece(7, 1)]
    desk.now += TOGETHER_S
    desk.outbox.flush_due()
    assert desk.heard() == [wire.Piece(7, "xx", [2, 3])]


def test_what_comes_slowly_does_not_wait(desk: Desk) -> None:
    desk.outbox.send(piece(7, 1))
    desk.now += TOGETHER_S
    desk.outbox.add(piece(7, 2))
    desk.outbox.flush_due()
    assert desk.heard() == [piece(7, 1), piece(7, 2)]


def test_how_far_a_job_is_waits_for_what_is_told_next(desk: Desk) -> None:
    desk.outbox.defer(wire.Progress(7, 1, 2))
    desk.outbox.flush_due()
    assert desk.heard() == []
    desk.outbox.keep(piece(7, 1))
    desk.outbox.flush_due()
    assert desk.heard() == [wire.Progress(7, 1, 2), piece(7, 1)]


def test_it_does_not_wait_long(desk: Desk) -> None:
    desk.now += 10 * TOGETHER_S  # nothing was told for a while
    desk.outbox.defer(wire.Progress(7, 1, 2))
    desk.now += TOGETHER_S / 2
    desk.outbox.defer(wire.Progress(7, 2, 2))
    desk.outbox.flush_due()
    assert desk.heard() == []
    desk.now += TOGETHER_S / 2
    desk.outbox.flush_due()
    assert desk.heard() == [wire.Progress(7, 1, 2), wire.Progress(7, 2, 2)]


def test_nothing_waits_where_the_engine_rests(desk: Desk) -> None:
    desk.outbox.send(piece(7, 1))
    desk.outbox.add(piece(7, 2))
    desk.outbox.flush()
    assert desk.heard() == [piece(7, 1), piece(7, 2)]


@pytest.mark.parametrize("urgent", [DONE, piece(8, 1), wire.Progress(9, 1, 2)])
def test_what_is_urgent_takes_along_what_waits(desk: Desk, urgent: wire.AnyEvent) -> None:
    desk.outbox.send(piece(7, 1))
    desk.outbox.add(piece(7, 2))
    desk.outbox.keep(urgent)
    desk.outbox.flush_due()
    assert desk.heard() == [piece(7, 1), piece(7, 2), urgent]


def test_a_piece_does_not_grow_for_ever(desk: Desk) -> None:
    desk.outbox.send(piece(7, 0))
    for token in range(3 * MOST_TOGETHER + 1):
        desk.outbox.add(piece(7, token))
    desk.outbox.flush_due()
    desk.outbox.flush()
    sizes = [len(event.tokens) for event in desk.heard() if isinstance(event, wire.Piece)]
    assert sizes == [1, MOST_TOGETHER, MOST_TOGETHER, MOST_TOGETHER, 1]


def test_who_hung_up_is_noticed(desk: Desk) -> None:
    desk.theirs.close()
    desk.outbox.send(DONE)
    assert desk.lost


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "keep", "defer", "due", "flush", "wait"]), st.integers(1, 3)),
        max_size=60,
    )
)
def test_nothing_is_lost_and_each_answer_keeps_its_order(acts: list[tuple[str, int]]) -> None:
    desk = Desk()
    told: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for number, (act, command) in enumerate(acts):
        if act in {"add", "keep", "defer"}:
            told[command].append(number)
            getattr(desk.outbox, act)(wire.Piece(command, f"{number},", [number]))
        elif act == "wait":
            desk.now += TOGETHER_S / 2
        else:
            desk.outbox.flush_due() if act == "due" else desk.outbox.flush()
    desk.outbox.flush()
    events = [event for event in desk.heard() if isinstance(event, wire.Piece)]
    desk.close()
    for command, numbers in told.items():
        of_it = [event for event in events if event.id == command]
        assert [token for event in of_it for token in event.tokens] == numbers
        assert "".join(event.text for event in of_it) == "".join(f"{number}," for number in numbers)


def test_news_leaves_a_breath_and_tokens_do_not(desk: Desk) -> None:
    assert desk.outbox.breath() == 0
    desk.outbox.add(piece(1, 5))
    desk.outbox.flush()
    assert desk.outbox.breath() == 0
    desk.outbox.defer(wire.Progress(7, 1, 2))
    desk.outbox.flush()
    assert desk.outbox.breath() == 0, "nobody waits for that"
    desk.outbox.send(DONE)
    assert desk.outbox.breath() == 0, "whoever waited for it asks for more"
    desk.outbox.keep(DONE)
    desk.outbox.flush_due()
    assert desk.outbox.breath() == pytest.approx(BREATH_S)
    desk.outbox.flush()  # there is nothing more to tell
    desk.now += BREATH_S / 2
    assert desk.outbox.breath() == pytest.approx(BREATH_S / 2)
    desk.now += BREATH_S
    assert desk.outbox.breath() == 0
