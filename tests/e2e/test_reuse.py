"""What is reused, over a random history, against a plain model of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, short_folder
from tests.e2e.turns import RAW

from sessiond.client import Client, Config, Session
from sessiond.v1 import context_pb2

STEPS = 200
LETTERS = "xyz"
"""Under a scripted model each is a token of its own: its byte."""

MODELS = {
    "roomy": "scripted-kv:num_ctx=65536,max_sequences=4096",
    "tight": "scripted-kv:num_ctx=300,max_sequences=3",
    "prompt": "scripted-prompt:num_ctx=65536",
    "silent": "scripted-prompt:num_ctx=65536,silent",
}


@pytest.fixture(scope="module")
def everything() -> Iterator[Daemon]:
    """A daemon that serves all of them."""
    with short_folder() as folder, Daemon(folder, MODELS["roomy"]) as daemon:
        yield daemon


def common(a: list[int], b: list[int]) -> int:
    """Tokens that both share from the first."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass
class Model:
    """What the session should be, and all that it ever was."""

    source: context_pb2.ReuseSource.ValueType
    exact: bool
    """Nothing is ever evicted: the longest prefix of all that was ever computed is reused, to the token."""
    computes_last: bool
    """Whether the last token of an answer is computed too, so that all of it is resident."""
    prefix: list[int] = field(default_factory=list[int])
    tail: list[int] = field(default_factory=list[int])
    past: list[list[int]] = field(default_factory=list[list[int]])
    computed: list[list[int]] = field(default_factory=list[list[int]])
    """What the backend has computed: the states of `past` and the present one, or all but their last token."""

    @property
    def now(self) -> list[int]:
        """All tokens."""
        return self.prefix + self.tail

    def check_reused(self, reused: int, target: list[int]) -> None:
        """Against the longest common prefix."""
        longest = max((common(was, target) for was in self.computed), default=0)
        if self.source == context_pb2.REUSE_SOURCE_UNKNOWN or target == self.now:
            unknown = self.source == context_pb2.REUSE_SOURCE_UNKNOWN
            # A backend that never computed an answer's last token says so when it is asked again.
            assert reused in {0 if unknown else longest, len(target)}
        elif self.exact:
            assert reused == longest
        else:
            assert common(self.now, target) <= reused <= longest

    def becomes(self, prefix: list[int], tail: list[int], *, uncomputed: int = 0) -> None:
        """The next state."""
        self.past.append(self.now)
        self.prefix, self.tail = prefix, tail
        self.computed.append(self.now[: len(self.now) - uncomputed])


def _text(rng: random.Random, model: Model) -> str:
    """An edit of the prefix, or of an older one, or something new."""
    base = "".join(map(chr, rng.choice([model.prefix, *model.past[-5:]]))) if rng.random() < 0.8 else ""
    base = "".join(letter for letter in base if letter in LETTERS)[:120]
    at = rng.randint(0, len(base))
    new = "".join(rng.choices(LETTERS, k=rng.randint(0, 25)))
    return base[:at] + new + (base[at + rng.randint(0, 5) :] if rng.random() < 0.7 else "")


def _ensure(rng: random.Random, session: Session, model: Model) -> None:
    text = _text(rng, model)
    target = list(text.encode())
    cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 3)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    status = session.ensure_prefix(segments=[(str(i), piece) for i, piece in enumerate(pieces)]).status
    assert status.reused_tokens + status.restored_tokens + status.prefilled_tokens == status.prefix_tokens
    assert status.prefix_tokens == status.resident_tokens == len(target)
    assert status.dropped_tokens == len(model.now) - common(model.now, target)
    if target and target != model.now:  # then the backend was not even asked
        assert status.reuse_source == model.source
    model.check_reused(status.reused_tokens, target)
    model.becomes(target, [])


def _suffix(rng: random.Random, session: Session, model: Model) -> None:
    text = "".join(rng.choices(LETTERS, k=rng.randint(0, 20)))
    replace = rng.random() < 0.6
    tail = [] if replace else model.tail
    base = model.prefix + tail
    status = session.prefill_suffix(text, mode="replace" if replace else "append").status
    assert status.suffix_tokens == len(text)
    # A backend that left the end of what stands before uncomputed computes it now, and counts it here.
    assert status.reused_tokens == max(0, status.suffix_tokens - status.prefilled_tokens)
    assert status.prefix_tokens == len(model.prefix)
    target = base + list(text.encode())
    assert status.resident_tokens == len(target)
    if model.source == context_pb2.REUSE_SOURCE_COUNTED:
        assert status.reused_tokens + status.prefilled_tokens == status.suffix_tokens
    model.check_reused(len(target) - status.prefilled_tokens, target)
    model.becomes(model.prefix, tail + list(text.encode()))


def _decode(rng: random.Random, session: Session, model: Model) -> None:
    if not model.now:
        return
    chunks = list(session.decode(max_tokens=rng.randint(1, 6), temperature=rng.choice([0.0, 1.0])))
    generated = [token for chunk in chunks for token in chunk.token_ids]
    assert chunks[-1].summary.generated_tokens == len(generated)
    at_end = chunks[-1].summary.finish_reason == context_pb2.FINISH_REASON_STOP
    missing = 0 if model.computes_last or at_end else min(1, len(generated))
    model.becomes(model.prefix, model.tail + generated, uncomputed=missing)


def _agrees(session: Session, model: Model) -> None:
    report = session.explain()
    assert report.prefix_tokens == len(model.prefix)
    assert report.suffix_tokens == len(model.tail)
    assert report.resident_tokens == len(model.now)
    assert report.available_tokens == report.num_ctx - len(model.now)
    assert sum(segment.resident_tokens for segment in report.segments) == len(model.prefix)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_counts_over_a_random_history(everything: Daemon, tmp_path: Path, name: str, seed: int) -> None:
    rng = random.Random(seed)
    # In a folder of its own: what a session that was closed has left would be found.
    session = everything.client.open_session(tmp_path, model=MODELS[name], key=f"history {seed}", config=RAW)
    source = {
        "prompt": context_pb2.REUSE_SOURCE_REPORTED,
        "silent": context_pb2.REUSE_SOURCE_UNKNOWN,
    }.get(name, context_pb2.REUSE_SOURCE_COUNTED)
    counted = source == context_pb2.REUSE_SOURCE_COUNTED
    model = Model(source, exact=name in {"roomy", "prompt"}, computes_last=counted)
    for step in range(STEPS):
        if len(model.now) > 200:
            session.ensure_prefix()
            model.becomes([], [])
        act = rng.choices([_ensure, _suffix, _decode], weights=[4, 3, 2])[0]
        try:
            act(rng, session, model)
            _agrees(session, model)
        except AssertionError as error:
            raise AssertionError(f"step {step}, {act.__name__}: {error}") from error
    session.close()


def test_a_backend_that_does_not_say_how_much_it_reused(everything: Daemon) -> None:
    session = everything.client.open_session(model=MODELS["silent"], key="plain", config=RAW)
    for _ in range(2):
        session.ensure_prefix("x")
        status = session.ensure_prefix("x" * 50).status
        assert status.reuse_source == context_pb2.REUSE_SOURCE_UNKNOWN
        assert (status.reused_tokens, status.prefilled_tokens) == (0, 50)


def test_a_backend_that_does_not_say_is_not_said_to_have_reported_an_exact_hit(everything: Daemon) -> None:
    session = everything.client.open_session(model=MODELS["silent"], key="hit", config=RAW)
    session.ensure_prefix("x" * 50)
    status = session.ensure_prefix("x" * 50).status
    assert status.reuse_source == context_pb2.REUSE_SOURCE_UNKNOWN
    assert status.reused_tokens + status.prefilled_tokens == 50


def test_a_warm_answer_is_the_cold_answer(everything: Daemon) -> None:
    """After any history the same tokens are answered the same."""
    rng = random.Random(3)
    client = everything.client
    for name in ("roomy", "tight", "prompt"):
        warm = client.open_session(model=MODELS[name], key="warm", config=RAW)
        for round_number in range(20):
            text = "".join(rng.choices(LETTERS, k=60))
            warm.ensure_prefix(text[: rng.randint(1, 59)])
            warm.ensure_prefix(text)
            cold = client.open_session(model=MODELS[name], key=f"cold {round_number}", config=RAW)
            cold.ensure_prefix(text)
            said = [[t for c in each.decode(max_tokens=8) for t in c.token_ids] for each in (warm, cold)]
            assert said[0] == said[1]
            cold.close()


@pytest.mark.model
def test_reuse_with_the_real_model(real_daemon: Daemon) -> None:
    client: Client = real_daemon.client
    session = client.open_session(key="reuse", config=Config(num_ctx=2048))
    parts = [(str(index), f"def function_{index}(x):\n    return x + {index}\n") for index in range(10)]
    cold = session.ensure_prefix(segments=parts).status
    assert (cold.reused_tokens, cold.prefilled_tokens) == (0, cold.prefix_tokens)
    warm = session.ensure_prefix(segments=parts).status
    assert (warm.reused_tokens, warm.prefilled_tokens) == (cold.prefix_tokens, 0)
    start = session.explain().segments[6].segment.token_start
    edited = [*parts[:5], ("5", "changed\n"), *parts[6:]]
    status = session.ensure_prefix(segments=edited).status
    assert status.reused_tokens == start, "segments are tokenized each on its own: all before the edit stays"
    assert session.explain().last_miss.cause == "changed"
    undone = session.ensure_prefix(segments=parts).status
    assert undone.prefilled_tokens == 0, "an undo is a walk"
