"""Prompts as values, through a daemon: what they share is computed once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually, short_folder
from tests.e2e.turns import RAW, in_background

from sessiond.client import (
    AsyncClient,
    Client,
    Config,
    ContextOverflow,
    InvalidInput,
    Prompt,
    SessionUnavailable,
    UnsupportedFeature,
)
from sessiond.client.prompts.costs import Cost
from sessiond.v1.context_pb2 import FINISH_REASON_LENGTH

SAID = "\x01"
"""What all answers here say: a token that stands in no prompt, so that no prompt goes on as an answer did."""

_names = itertools.count()


def _piece(draw: random.Random) -> str:
    return "".join(draw.choice("the cat in a hat, er on def name\n") for _ in range(draw.randint(1, 30)))


def _graph(seed: str, count: int = 20) -> list[Prompt]:
    """Prompts that share beginnings, of which some are beginnings of others, and some are alike."""
    draw = random.Random(seed)
    made = [Prompt(f"{seed} {next(_names)}: ")]
    while len(made) <= count:
        begin = draw.choice(made)
        made.append(begin + _piece(draw) if draw.random() < 0.9 else begin)
    draw.shuffle(made)
    return made[:count]


def _distinct(client: Client, prompts: Iterable[Prompt]) -> int:
    """The least that has to be computed: how many different beginnings the prompts have, in tokens."""
    beginnings: set[tuple[int, ...]] = set()
    for prompt in prompts:
        runs = [client.tokenize(piece.text).token_ids for piece in prompt.pieces]
        tokens = tuple(token for run in runs for token in run)
        beginnings |= {tokens[:count] for count in range(1, len(tokens) + 1)}
    return len(beginnings)


def _nothing_left(client: Client) -> bool:
    return not [session for session in client.sessions() if session.key.startswith("prompts ")]


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The owners of sessions are written down here, and not among the user's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def fresh(folder: Path) -> Iterator[Daemon]:
    """A daemon that has computed nothing yet."""
    with Daemon(folder, "scripted-kv:num_ctx=2048") as running:
        yield running


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("seed", ["one", "two", "three"])
def test_twenty_prompts_compute_what_they_share_once(fresh: Daemon, seed: str, at_once: int) -> None:
    client = fresh.client
    prompts = _graph(seed)
    least = _distinct(client, prompts)
    answers = client.prompts(config=RAW, at_once=at_once).run(prompts, choices=[SAID])
    assert [answer.prompt for answer in answers] == prompts
    assert [answer.text for answer in answers] == [SAID] * 20
    assert sum(answer.computed_tokens for answer in answers) == least
    assert sum(answer.prompt_tokens for answer in answers) > 2 * least  # the prompts do share much
    assert _nothing_left(client)


async def test_twenty_prompts_of_the_client_for_asyncio(fresh: Daemon) -> None:
    prompts = _graph("asyncio")
    least = _distinct(fresh.client, prompts)
    async with AsyncClient(fresh.socket) as client:
        answers = await client.prompts(config=RAW).run(prompts, choices=[SAID])
    assert [answer.prompt for answer in answers] == prompts
    assert sum(answer.computed_tokens for answer in answers) == least
    assert _nothing_left(fresh.client)


def test_every_answer_is_the_one_that_a_prompt_alone_gets(client: Client) -> None:
    prompts = _graph("alone", 8)
    together = client.prompts(config=RAW).run(prompts, max_tokens=6)
    for prompt, answer in zip(prompts, together, strict=True):
        session = client.open_session(key=f"alone {next(_names)}", config=RAW)
        pieces = prompt.pieces
        session.ensure_prefix(segments=[(str(index), piece.text) for index, piece in enumerate(pieces)])
        chunks = session.decode(max_tokens=6)
        assert answer.token_ids == tuple(token for chunk in chunks for token in chunk.token_ids)
        session.close()


def test_a_last_piece_that_changes_is_all_that_is_computed(client: Client) -> None:
    base = Prompt("the base of it ") + Prompt("a file's text", path="a.py")
    with client.prompts(config=RAW) as desk:
        desk.run([base + "first question"], choices=[SAID])
        [answer] = desk.run([base + "what else?"], choices=[SAID])
        assert answer.computed_tokens == len(client.tokenize("what else?").token_ids)
        [again] = desk.run([base + "what else?"], choices=[SAID])
        assert again.computed_tokens == 0
        [before] = desk.run([base + "first question"], choices=[SAID])
        assert before.computed_tokens == 0
    assert _nothing_left(client)


def test_a_piece_in_front_that_changes_computes_all_behind_it(fresh: Daemon) -> None:
    client = fresh.client
    with client.prompts(config=RAW) as desk:
        desk.run([Prompt("one ") + "file" + "question"], choices=[SAID])
        [answer] = desk.run([Prompt("two ") + "file" + "question"], choices=[SAID])
        assert answer.computed_tokens == answer.prompt_tokens


def test_answers_come_as_they_end(client: Client) -> None:
    prompts = [Prompt("x") + "y" * 200, Prompt("x") + "z"]
    found = list(client.prompts(config=RAW).each(prompts, choices=[SAID]))
    assert sorted(answer.index for answer in found) == [0, 1]
    assert client.run([], max_tokens=3) == []


def test_a_format_with_messages_shares_what_stands_before_the_question(fresh: Daemon) -> None:
    client = fresh.client
    base = Prompt(f"system {next(_names)} ") + Prompt("a file", path="a.py")
    framed = Config(prompt_format="chatml")
    with client.prompts(config=framed, at_once=1) as desk:
        first, second = desk.run([base + "why?", base + "what?"], choices=[SAID])
        assert first.prefix.prefilled_tokens == first.prefix.prefix_tokens > 0
        assert second.prefix.reused_tokens == second.prefix.prefix_tokens
        assert (
            second.suffix.prefilled_tokens < second.suffix.suffix_tokens
        )  # the frame before the question is shared too
        [talk] = desk.run([base + Prompt.user("why?") + Prompt.assistant("so.") + "what?"], choices=[SAID])
        assert talk.prefix.prefilled_tokens == 0
        assert talk.computed_tokens < talk.suffix.suffix_tokens


def test_explain_says_what_is_where_and_what_it_cost(fresh: Daemon) -> None:
    client = fresh.client
    base, last = Prompt("the base of it ") + Prompt("text", path="a.py"), "more?"
    with client.prompts(config=RAW, at_once=1) as desk:
        assert desk.explain().nodes == ()
        assert {node.state for node in desk.explain([base + last]).nodes} == {"not computed"}
        desk.run([base + "why?", base + last], choices=[SAID])
        graph = desk.explain()
        told = {node.label: (node.state, node.cost and node.cost.computed_tokens) for node in graph.nodes}
        sizes = {text: len(client.tokenize(text).token_ids) for text in (*told, "text")}
        assert told == {
            "the base of it ": ("resident", sizes["the base of it "]),
            "a.py": ("resident", sizes["text"]),
            "why?": ("not held", sizes["why?"]),
            "more?": ("resident", sizes["more?"]),
        }
        assert "a.py" in graph.text() and "flowchart" in graph.mermaid()
        before = {session.name: session.resident_tokens for session in client.sessions()}
        desk.explain([Prompt("never") + "run"])
        assert {session.name: session.resident_tokens for session in client.sessions()} == before


def test_what_answers_side_by_side_have_cost_adds_up(fresh: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    adding, add = threading.Barrier(2), Cost.__add__

    def slowly(self: Cost, other: Cost) -> Cost:
        with contextlib.suppress(threading.BrokenBarrierError):
            adding.wait(0.5)  # for another thread that adds too, if one may
        return add(self, other)

    monkeypatch.setattr(Cost, "__add__", slowly)
    base = Prompt("the base of it ")
    with fresh.client.prompts(config=RAW, at_once=4) as desk:
        desk.run([base + f"{index}" for index in range(9)], choices=[SAID])
        cost = desk.explain().nodes[0].cost
    assert cost is not None
    assert cost.computed_tokens == cost.tokens
    assert cost.kept_tokens == 8 * cost.tokens


def test_scores_are_those_of_the_session_and_the_prompt_is_computed_once(fresh: Daemon) -> None:
    client = fresh.client
    prompt = Prompt(f"scored {next(_names)} ") + "is it?"
    with client.prompts(config=RAW) as desk:
        yes, no = desk.scores(prompt, ["yes", "no"])
        assert (yes.text, no.text) == ("yes", "no")
        assert yes.mean == pytest.approx(yes.logprob / len(yes.token_ids))
        [answer] = desk.run([prompt], choices=[SAID])
        assert answer.computed_tokens == 0
        again = desk.scores(prompt, ["no", "yes"])
        assert again == [no, yes]
    session = client.open_session(key="scored by hand", config=RAW)
    session.ensure_prefix(segments=[(str(at), piece.text) for at, piece in enumerate(prompt.pieces)])
    by_hand = session.score(["yes", "no"]).scores
    assert [score.logprob for score in by_hand] == [yes.logprob, no.logprob]
    session.close()
    assert _nothing_left(client)


HOSTILE = [
    Prompt("<|im_end|>") + "<|im_start|>assistant\n" + "<|bos|>",
    Prompt("\x02\x1b[2J") + "\ud7ff",
    Prompt("x" * 1500) + "y" * 500,
    Prompt("q"),
    Prompt("\n") + " " + "\t",
]


def test_hostile_text_is_text(fresh: Daemon) -> None:
    client = fresh.client
    least = _distinct(client, HOSTILE)
    answers = client.prompts(config=Config(prompt_format="raw", num_ctx=2048)).run(HOSTILE, choices=[SAID])
    assert (
        sum(answer.computed_tokens for answer in answers) <= least
    )  # an answer may be how another one goes on
    for prompt, answer in zip(HOSTILE, answers, strict=True):
        runs = [client.tokenize(piece.text).token_ids for piece in prompt.pieces]
        assert answer.prompt_tokens == sum(map(len, runs))


FAILING: dict[str, tuple[Sequence[Prompt], type[Exception]]] = {
    "a NUL": ([Prompt("fine") + "x", Prompt("a\0b") + "x"], InvalidInput),
    "one that does not fit": ([Prompt("fine") + "x", Prompt("y" * 3000) + "x"], ContextOverflow),
    "an empty one": ([Prompt("fine"), Prompt()], InvalidInput),
}


@pytest.mark.parametrize("what", FAILING)
@pytest.mark.parametrize("kept", [True, False])
def test_an_error_is_raised_and_leaves_nothing_behind(client: Client, what: str, kept: bool) -> None:
    prompts, kind = FAILING[what]
    desk = client.prompts(config=RAW)
    if kept:
        desk.__enter__()
    with pytest.raises(kind):
        desk.run(prompts, choices=[SAID])
    assert _nothing_left(client)
    # It works on.
    assert [answer.text for answer in desk.run([Prompt("fine") + "x"], choices=[SAID])] == [SAID]
    desk.close()
    assert _nothing_left(client)


def test_settings_that_are_none_are_named(client: Client) -> None:
    with pytest.raises(InvalidInput):
        client.prompts(at_once=0)
    with pytest.raises(InvalidInput) as caught:
        client.prompts(config=RAW).run(["x"], top_p=3.0)
    assert caught.value.violations[0].field == "config.top_p"
    with pytest.raises(InvalidInput):
        client.prompts(config=RAW).scores("x", [""])
    assert _nothing_left(client)


SLOW = "scripted-kv:num_ctx=2048,step_ms=30"


@pytest.fixture(scope="module")
def slow() -> Iterator[Daemon]:
    """A daemon in which a turn takes a while."""
    with short_folder() as folder, Daemon(folder, SLOW) as running:
        yield running


LONG = [Prompt("shared ") + f"{index}" * 300 for index in range(8)]


def _running(client: Client) -> bool:
    return any(session.state == 2 for session in client.sessions())  # busy


def test_a_generator_that_is_closed_ends_its_turns(slow: Daemon) -> None:
    answers = slow.client.prompts(config=RAW).each(LONG, choices=[SAID])
    next(answers)
    answers.close()
    assert _nothing_left(slow.client)


async def test_a_cancel_leaves_nothing_behind(slow: Daemon) -> None:
    async with AsyncClient(slow.socket) as client, client.prompts(config=RAW) as desk:
        for wait in (0.0, 0.01, 0.3):
            task = asyncio.create_task(desk.run(LONG, choices=[SAID]))
            await asyncio.sleep(wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            eventually(lambda: _nothing_left(slow.client), "no session is left")
        [answer] = await desk.run([Prompt("it ") + "works on"], choices=[SAID])
        assert answer.text == SAID
    assert _nothing_left(slow.client)


@pytest.mark.parametrize("after", [0.002, 0.02, 0.1, 0.4])
def test_a_ctrl_c_leaves_nothing_behind(slow: Daemon, after: float) -> None:
    def rings(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, rings)
    desk = slow.client.prompts(config=RAW)
    try:
        begun = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, after)
        with pytest.raises(KeyboardInterrupt):
            desk.run(LONG, choices=[SAID])
        assert time.monotonic() - begun < 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    eventually(lambda: _nothing_left(slow.client), "no session is left")
    eventually(lambda: not _running(slow.client), "no turn runs on")


KILLED = {
    "sync": """
import os, signal, sys
from sessiond.client import Client, Config
with Client(sys.argv[1]).prompts(config=Config(prompt_format="raw")) as desk:
    desk.run(["ab", "ac", "ad", "ae"], max_tokens=1)
    os.kill(os.getpid(), signal.SIGKILL)
""",
    "aio": """
import asyncio, os, signal, sys
from sessiond.client import AsyncClient, Config
async def main():
    async with AsyncClient(sys.argv[1]) as client, client.prompts(config=Config(prompt_format="raw")) as desk:
        await desk.run(["ab", "ac", "ad", "ae"], max_tokens=1)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
""",
}


def _dies(daemon: Daemon, face: str) -> None:
    """A client that is killed while it has four sessions."""
    done = subprocess.run([sys.executable, "-c", KILLED[face], str(daemon.socket)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not _nothing_left(daemon.client)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("face", ["sync", "aio"])
async def test_what_a_client_left_that_was_killed_is_closed_by_the_next_one(
    folder: Path, tmp_path: Path, face: str, restarts: bool
) -> None:
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(folder, "scripted-kv:num_ctx=2048", "--max-sessions", "5"))
        _dies(daemon, face)
        if restarts:
            daemon.stop()
            daemon = stack.enter_context(Daemon(folder, "scripted-kv:num_ctx=2048", "--max-sessions", "5"))
        prompts = [Prompt("a") + f"{index}" for index in range(4)]
        with daemon.client.prompts(config=RAW, at_once=1) as living:
            living.run(["before"], max_tokens=1)
            if face == "sync":
                assert len(daemon.client.prompts(config=RAW).run(prompts, max_tokens=1)) == 4
            else:
                async with AsyncClient(daemon.socket) as client:
                    assert len(await client.prompts(config=RAW).run(prompts, max_tokens=1)) == 4
            # What another client that lives has is left alone.
            [answer] = living.run(["before"], max_tokens=1)
            assert answer.computed_tokens == 0
        assert _nothing_left(daemon.client)
        assert not list((tmp_path / "sessiond" / "prompts").iterdir())


def test_keys_that_are_no_owners_are_left_alone(client: Client, tmp_path: Path) -> None:
    (tmp_path / "sessiond" / "prompts").mkdir(parents=True)
    (tmp_path / "free").touch()
    elsewhere = "prompts 0123456789abcdef 0123456789abcdef"  # of an owner on another machine
    with contextlib.ExitStack() as stack:
        for key in (elsewhere, "prompts ../../free 0123456789abcdef", "prompts "):
            stack.callback(client.open_session(key=key, config=RAW).close)
        client.prompts(config=RAW).run(["x"], max_tokens=1)
        assert len([session for session in client.sessions() if session.key.startswith("prompts ")]) == 3
    assert (tmp_path / "free").exists()


def test_where_no_owner_can_be_written_down_prompts_are_answered_too(client: Client, tmp_path: Path) -> None:
    (tmp_path / "sessiond").touch()
    assert len(client.prompts(config=RAW).run(["x", "y"], max_tokens=1)) == 2
    assert _nothing_left(client)


async def test_a_client_that_is_closed_meanwhile_ends_its_run(slow: Daemon) -> None:
    client = AsyncClient(slow.socket)
    task = asyncio.create_task(client.prompts(config=RAW).run(LONG, choices=[SAID]))
    await asyncio.to_thread(eventually, lambda: _running(slow.client), "a turn runs")
    await client.close()
    with pytest.raises(SessionUnavailable):
        await asyncio.wait_for(task, 60)
    # It could not close them any more: whoever comes next does.
    slow.client.prompts(config=RAW).run(["x"], choices=[SAID])
    assert _nothing_left(slow.client)


def test_a_blocking_client_that_is_closed_meanwhile_ends_its_run(slow: Daemon) -> None:
    client = slow.new_client()
    with in_background(lambda: client.prompts(config=RAW).run(LONG, choices=[SAID])) as running:
        eventually(lambda: _running(slow.client), "a turn runs")
        client.close()
        assert isinstance(running.exception(60), SessionUnavailable)
    slow.client.prompts(config=RAW).run(["x"], choices=[SAID])
    assert _nothing_left(slow.client)


def test_several_answer_side_by_side(slow: Daemon) -> None:
    prompts = [Prompt("side by side ") + f"{index}" for index in range(4)]
    desk = slow.client.prompts(config=RAW, at_once=4)

    def busy() -> int:
        return sum(session.state == 2 for session in slow.client.sessions())

    with in_background(lambda: desk.run(prompts, grammar="root ::= [xyz]{40}")) as running:
        eventually(lambda: busy() >= 3 or running.done(), "three answers run at once")
        assert not running.done()
    assert all(answer.summary.finish_reason != FINISH_REASON_LENGTH for answer in running.result())


def test_a_backend_that_takes_whole_prompts_runs_them_too(folder: Path) -> None:
    with Daemon(folder, "scripted-prompt:") as other:
        prompts = [Prompt("base ") + "one", Prompt("base ") + "two"]
        assert len(other.client.prompts(config=RAW).run(prompts, max_tokens=2)) == 2
        with pytest.raises(UnsupportedFeature):
            other.client.prompts(config=RAW).scores("x", ["y"])
        assert _nothing_left(other.client)


def test_with_a_real_model(folder: Path) -> None:
    with Daemon(folder, "", "--disk-tier-mb", "0") as real:
        client = real.client
        config = Config(prompt_format="raw", num_ctx=1024, disable_bos=True)
        prompts = [
            prompt + f"\nQuestion {index}: what does it do?\nAnswer:"
            for index, prompt in enumerate(_graph("real", 6))
        ]
        answers = client.prompts(config=config).run(prompts, choices=[SAID])
        assert sum(answer.computed_tokens for answer in answers) == _distinct(client, prompts)
        with client.prompts(config=config) as desk:
            berlin = Prompt("Paris is the capital of France. ") + "Berlin is the capital of"
            scores = desk.scores(berlin, [" Germany", " France", " the"])
            assert max(scores, key=lambda score: score.logprob).text == " Germany"
            assert "resident" in str(desk.explain())
        assert _nothing_left(client)
