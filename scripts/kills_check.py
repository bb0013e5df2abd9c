"""What has to stand after a kill: every name answers, every prefix is what its texts are, and no answer is wrong."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kills_disk import Comeback
from kills_held import LEDGER_S, Folder, Held, Library, Shelf, digest
from kills_load import BROKEN, CALL_S, Turn
from kills_oracle import Oracle
from sessiond.client import Client, Session, SessiondError, SessionNotFound
from sessiond.daemon.engine.disk.keys import pack
from sessiond.v1.context_pb2 import ContextReport

BACK_S = 60.0
"""Within which a session has to answer after a kill, on any machine."""
ANSWER = 6
"""Tokens of the answer that each session is asked for."""
QUESTION = "# after all\nresult = "
T = TypeVar("T")


class CutShort(Exception):
    """The next kill fell meanwhile."""


@dataclass(slots=True)
class Found:
    """What was found wrong, and how much was looked at."""

    lost: list[str] = field(default_factory=list[str])
    """Names that did not answer."""
    too_young: int = 0
    """Names that did not answer, and were told of so shortly before a kill that they were on no disk."""
    strays: int = 0
    """Sessions that nobody was told of, or that were closed shortly before the kill."""
    other_prefix: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    """Answers that are not those of the tokens."""
    faults: list[str] = field(default_factory=list[str])
    answered: int = 0
    """Names that did."""
    right: int = 0
    """Answers that were held against the model's own, those of which only a beginning came among them."""
    unjudged: int = 0
    """Answers before whose end the daemon was gone, and of which nobody knows what was asked: the files had changed."""


class Judge:
    """Holds answers against the model's own."""

    def __init__(self, oracle: Oracle, library: Library, found: Found) -> None:
        self.library, self._oracle, self._found = library, oracle, found
        self._known: dict[str, tuple[int, ...]] = {}
        """Tokens of prefixes, by the hash that is told of them."""

    def tokens(self, hashes: list[str]) -> tuple[int, ...] | None:
        """Those of a prefix of these segments; None if there never was such a text."""
        texts = self.library.find(hashes)
        if texts is None:
            return None
        made = tuple(token for text in texts for token in self._oracle.tokens(text))
        self._known[hashlib.sha256(pack(made)).hexdigest()] = made
        return made

    def turns(self, turns: list[Turn], comeback: Comeback | None, since: float) -> None:
        """Judge all of these; those whose prefix came after that moment, and so after a kill, count for the comeback too."""
        for turn in sorted(turns, key=lambda turn: turn.at):
            if turn.status is None:
                continue
            hashes = turn.hashes if turn.text is None else [digest(turn.text)]
            if hashes is not None and self.tokens(hashes) is None:
                self._found.other_prefix.append(f"{turn.held.name}: a segment that no file ever held")
            tokens = self._known.get(turn.status.stable_token_hash)
            if tokens is None and hashes is not None:
                self._found.other_prefix.append(f"{turn.held.name}: the tokens are not those of its texts")
            elif tokens is None:
                self._found.unjudged += 1
            else:
                self.answer(turn, tokens)
                if comeback is not None and turn.at > since:
                    comeback.asked(
                        _space(turn.held), tokens, turn.status.reused_tokens, turn.status.prefilled_tokens
                    )

    def answer(self, turn: Turn, prefix: tuple[int, ...]) -> None:
        """What came has to be the beginning of the right answer, or all of it."""
        right = self._oracle.answer((*prefix, *self._oracle.tokens(turn.question)), turn.most)
        if tuple(turn.got) != (right if turn.whole else right[: len(turn.got)]):
            self._found.wrong.append(f"{turn.held.name}: {turn.got} and not {list(right)}")
        else:
            self._found.right += 1


class Check:
    """Over one daemon after a kill, before anybody works again. `begun` is set when the next kill falls."""

    def __init__(
        self, client: Client, folder: Folder, shelf: Shelf, judge: Judge, found: Found, begun: threading.Event
    ) -> None:
        self._client, self._folder, self._shelf, self._judge = client, folder, shelf, judge
        self._found, self._begun = found, begun

    def all(self, comeback: Comeback, at: float) -> None:
        """Every session after the kill at that moment. Raises CutShort."""
        for held in self._shelf.all():
            self._one(held, comeback, at)
        self._away_with_strays()

    def _one(self, held: Held, comeback: Comeback, at: float) -> None:
        session = self._client.session(held.name)
        try:
            self._patiently(lambda: session.info(timeout=CALL_S))
            self._stands(held, self._patiently(lambda: session.explain(timeout=CALL_S)), at)
            self._ensure(held, session, comeback)
            self._found.answered += 1
        except CutShort:
            raise
        except SessionNotFound:
            self._shelf.drop(held)
            if held.may_be_gone:
                self._found.too_young += 1
            else:
                self._found.lost.append(f"{held.name}: it is not known")
        except (SessiondError, TimeoutError) as error:
            self._shelf.drop(held)
            self._found.lost.append(f"{held.name}: {type(error).__name__}: {error}")

    def _stands(self, held: Held, report: ContextReport, at: float) -> None:
        """Its prefix is one that it was brought to, and not an older one than it may be."""
        hashes = [each.byte_hash for each in report.manifest.segments]
        texts = self._judge.tokens(hashes) is not None
        if not texts or (
            not held.workspace and hashes not in ([digest(t)] if t else [] for t in held.may_be(at))
        ):
            self._found.other_prefix.append(f"{held.name}: it stands on something else than its texts")

    def _ensure(self, held: Held, session: Session, comeback: Comeback) -> None:
        """Ask for its prefix as it is now, and for an answer."""
        text = "".join(held.lines)
        asked = (
            (lambda: session.ensure_prefix(workspace=True))
            if held.workspace
            else (lambda: session.ensure_prefix(text))
        )
        told = None if held.workspace else held.ask(self._judge.library)
        status = self._patiently(asked).status
        if told is not None:
            told.acked = time.monotonic()
        segments = self._patiently(session.explain).manifest.segments
        tokens = self._judge.tokens([each.byte_hash for each in segments])
        served = {each.path: each.byte_hash for each in segments}
        right = self._folder.served() if held.workspace else {"": digest(text)}
        if tokens is None or served != right or status.prefix_tokens != len(tokens):
            self._found.other_prefix.append(f"{held.name}: {served} and not {right}")
            return
        comeback.asked(_space(held), tokens, status.reused_tokens, status.prefilled_tokens)
        turn = Turn(held, QUESTION, ANSWER, None)
        self._patiently(lambda: _answered(session, turn))
        self._judge.answer(turn, tokens)

    def _away_with_strays(self) -> None:
        """Close what nobody holds: the daemon takes only so many sessions."""
        held = {each.name for each in self._shelf.all()}
        for told in self._patiently(self._client.sessions):
            if told.name not in held:
                self._found.strays += 1
                self._patiently(self._client.session(told.name).close)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer: what was killed takes a while to come back. Raises CutShort, and what the daemon
        raises to the end.
        """
        until = time.monotonic() + BACK_S
        while True:
            try:
                return ask()
            except BROKEN:
                if self._begun.is_set():
                    raise CutShort from None
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def too_young(held: Held, names: set[str], at: float) -> bool:
    """Whether nobody can say that the name must survive a kill at that moment: it is not in the ledger yet, and is new."""
    return held.name not in names and held.since > at - LEDGER_S


def _answered(session: Session, turn: Turn) -> None:
    turn.got, turn.whole = [], False
    for event in session.complete(turn.question, mode="replace", max_tokens=turn.most, temperature=0.0):
        if event.HasField("chunk"):
            turn.got += event.chunk.token_ids
            turn.whole = turn.whole or event.chunk.HasField("summary")


def _space(held: Held) -> str:
    return "workspace" if held.workspace else ""
