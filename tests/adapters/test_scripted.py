"""The scripted backend's own promises: its options, its answers, its vocabulary, and its death."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.adapters.base import (
    BackendError,
    ContextSettings,
    LoraSettings,
    Model,
    ModelLoadError,
    ModelSettings,
    PromptContext,
    Run,
    Sampling,
    Unsupported,
)
from sessiond.adapters.scripted import KV, PROMPT
from sessiond.adapters.scripted.kv import ScriptedKv

_TEXT = "def name(value):\n    return value # the user asks for the 😒 name and the value of it"


def _load(name: str, settings: ModelSettings | None = None) -> Model:
    adapter = KV if KV.accepts(name) else PROMPT
    return adapter.load(name, settings or ModelSettings(), lambda _: None)


def _kv(name: str = "scripted-kv:", *, num_ctx: int = 0, num_ubatch: int = 0) -> ScriptedKv:
    settings = ContextSettings(num_ctx=num_ctx, num_ubatch=num_ubatch)
    return cast("ScriptedKv", _load(name).new_context(settings))


def _logits(model: Model) -> bytes:
    context = cast("ScriptedKv", model.new_context(ContextSettings()))
    context.decode([Run(0, 0, model.tokenize(_TEXT, parse_special=False), want_logits=True)])
    return context.logits(0)


def _greedy(model: Model, count: int) -> list[int]:
    context, sampler = cast("ScriptedKv", model.new_context(ContextSettings())), model.new_sampler(Sampling())
    new = model.tokenize(_TEXT, parse_special=False)
    found: list[int] = []
    for _ in range(count):
        context.decode([Run(0, context.end(0), new, want_logits=True)])
        new = [context.sample(0, sampler)]
        found += new
    return found


# ---- options


@pytest.mark.parametrize(
    "name",
    [
        "scripted-kv:unknown=1",
        "scripted-kv:num_ctx",
        "scripted-kv:num_ctx=",
        "scripted-kv:num_ctx=0",
        "scripted-kv:num_ctx=-5",
        "scripted-kv:num_ctx=5,num_ctx=6",
        "scripted-kv:num_cells=0",
        "scripted-prompt:num_cells=5",
        "scripted-kv:num_ctx=5,",
        "scripted-kv: num_ctx=5",
        "scripted-kv:step_ms=soon",
        "scripted-kv:step_ms=nan",
        "scripted-kv:step_ms=-1",
        "scripted-kv:bos=yes",
        "scripted-kv:silent=1",
        "scripted-prompt:no_truncate",
        "scripted-prompt:max_sequences=3",
        "scripted-kv:die=SIGSEGV",
        "scripted-kv:die=SIGNONE@load",
        "scripted-kv:die=SIGSEGV@decode:0",
        "scripted-kv:die=SIGSEGV@decode:x",
        "scripted-kv:die=SIGSEGV@end",
    ],
)
def test_what_an_option_cannot_mean_is_refused(name: str) -> None:
    with pytest.raises(ModelLoadError):
        _load(name)


def test_each_adapter_accepts_its_own_names() -> None:
    assert KV.accepts("scripted-kv:num_ctx=5")
    assert not KV.accepts("scripted-prompt:")
    assert not KV.accepts("scripted-kv")
    assert PROMPT.accepts("scripted-prompt:")
    with pytest.raises(ModelLoadError):
        KV.load("scripted-prompt:", ModelSettings(), lambda _: None)


def test_num_ctx_is_the_default_and_a_setting_wins() -> None:
    assert _kv("scripted-kv:num_ctx=100").settings.num_ctx == 100
    assert _kv("scripted-kv:num_ctx=100", num_ctx=50).settings.num_ctx == 50
    assert _load("scripted-kv:num_ctx=100").facts.num_ctx_train == 100


def test_num_cells_is_the_default_and_a_setting_wins() -> None:
    assert _kv("scripted-kv:num_ctx=100").cells == 100
    assert _kv("scripted-kv:num_ctx=100,num_cells=300").cells == 300
    assert _kv("scripted-kv:num_ctx=100,num_cells=300", num_ctx=400).cells == 400
    model = _load("scripted-kv:num_ctx=100,num_cells=300")
    context = cast("ScriptedKv", model.new_context(ContextSettings(num_cells=200)))
    assert (context.settings.num_ctx, context.cells) == (100, 200)


def test_max_sequences() -> None:
    assert _kv().max_sequences == 16
    assert _kv("scripted-kv:max_sequences=3").max_sequences == 3


def test_step_ms_is_the_time_of_each_micro_batch() -> None:
    context = _kv("scripted-kv:step_ms=20", num_ubatch=8)
    started = time.monotonic()
    context.decode([Run(0, 0, [65] * 33)])
    assert time.monotonic() - started >= 5 * 0.02


def test_load_ms_is_the_time_of_loading_and_progress_is_told() -> None:
    heard: list[float] = []
    started = time.monotonic()
    KV.load("scripted-kv:load_ms=50", ModelSettings(), heard.append)
    assert time.monotonic() - started >= 0.05
    assert len(heard) > 3
    assert heard[-1] == 1


def test_no_truncate_refuses_cuts_and_nothing_else() -> None:
    model = _load("scripted-kv:no_truncate")
    assert not model.facts.capabilities.truncate
    context = cast("ScriptedKv", model.new_context(ContextSettings()))
    context.decode([Run(0, 0, [65] * 10)])
    assert not context.truncate(0, 5)
    assert context.end(0) == 10
    assert context.truncate(0, 10)
    with pytest.raises(Unsupported):
        context.share(0, 1, 5)
    context.share(0, 1, 10)
    context.drop(0)
    assert (context.end(0), context.end(1)) == (0, 10)


def test_a_checkpoint_of_other_tokens_is_refused() -> None:
    context = _kv("scripted-kv:no_truncate")
    context.decode([Run(0, 0, [65] * 10), Run(1, 0, [66] * 10)])
    right, wrong = context.checkpoint(0), context.checkpoint(1)
    context.decode([Run(0, 10, [67] * 5)])
    assert not context.truncate(0, 10, wrong)
    with pytest.raises(Unsupported):
        context.share(0, 2, 10, wrong)
    context.share(0, 2, 10, right)
    assert context.truncate(0, 10, right)
    assert (context.end(0), context.end(2)) == (10, 10)


def test_a_piece_under_another_prefix_answers_wrongly() -> None:
    context, model = _kv(), _load("scripted-kv:")
    context.decode([Run(0, 0, [65] * 10), Run(1, 0, [66] * 10)])
    context.decode([Run(0, 10, [67] * 5)])
    context.load(1, context.save(0, 10), 10)
    context.decode([Run(1, 15, [68], want_logits=True)])
    fresh = cast("ScriptedKv", model.new_context(ContextSettings()))
    fresh.decode([Run(0, 0, [66] * 10 + [67] * 5 + [68], want_logits=True)])
    assert context.logits(0) != fresh.logits(0)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60), st.data())
@settings(deadline=None, max_examples=60)
def test_a_piece_is_what_a_copy_of_its_cells_would_be(tokens: list[int], data: st.DataObject) -> None:
    """Of one sequence, with none to lend; and what was computed behind the piece leaves no trace in it."""
    context, copy = _kv("scripted-kv:max_sequences=1"), _kv("scripted-kv:max_sequences=1")
    context.decode([Run(0, 0, tokens)])
    end = data.draw(st.integers(0, len(tokens)))
    start = data.draw(st.integers(0, end))
    if end:
        copy.decode([Run(0, 0, tokens[:end])])
    before = context.save(0)
    assert context.save(0, start, end) == copy.save(0, start)
    assert (context.save(0), context.used_cells) == (before, len(tokens))


def test_bos_is_there_and_added_where_asked_for() -> None:
    plain, opened = _load("scripted-kv:").facts.vocab, _load("scripted-kv:bos=1").facts.vocab
    assert plain.bos == opened.bos is not None
    assert (plain.add_bos, opened.add_bos) == (False, True)
    assert plain.digest != opened.digest


def test_digests_tell_models_apart_and_not_how_they_run() -> None:
    def digest(name: str) -> str:
        return _load(name).facts.model_digest

    plain = digest("scripted-kv:")
    same = "step_ms=0.1,load_ms=0.1,die=SIGKILL@decode:99,max_sequences=3,num_cells=9999"
    assert digest(f"scripted-kv:{same}") == plain
    for other in ("num_ctx=5", "bos", "weights=b", "no_truncate"):
        assert digest(f"scripted-kv:{other}") != plain


def test_other_weights_and_low_rank_adapters_answer_otherwise() -> None:
    plain = _logits(_load("scripted-kv:"))
    assert _logits(_load("scripted-kv:step_ms=0.01,num_ctx=512")) == plain
    assert _logits(_load("scripted-kv:weights=b")) != plain
    assert _logits(_load("scripted-kv:", ModelSettings(loras=(LoraSettings("a.gguf"),)))) != plain


# ---- answers


def test_both_forms_answer_alike() -> None:
    kv, prompt = _load("scripted-kv:"), _load("scripted-prompt:")
    context = cast("PromptContext", prompt.new_context(ContextSettings()))
    text = prompt.tokenize(_TEXT, parse_special=False)
    found = [each.token for each in context.answer(text, Sampling(), 100)]
    assert _greedy(kv, len(found)) == found


def test_answers_end_now_and_then() -> None:
    model = _load("scripted-kv:")
    found = _greedy(model, 2000)
    ends = sum(token in model.facts.vocab.end_tokens for token in found)
    assert 15 <= ends <= 60  # one in 64 is expected, inside characters never


def test_answers_are_text_with_characters_split_over_tokens() -> None:
    model = _load("scripted-kv:")
    pieces = model.pieces(_greedy(model, 2000))
    b"".join(pieces[:-1]).decode()
    split = 0
    for piece in pieces:
        try:
            piece.decode()
        except UnicodeDecodeError:
            split += 1
    assert split > 10


def test_another_token_anywhere_before_changes_the_logits() -> None:
    first, second = _kv(), _kv()
    for context, opening in ((first, 65), (second, 66)):
        context.decode([Run(0, 0, [opening])])
        context.decode([Run(0, 1, [70] * 100, want_logits=True)])
    assert first.logits(0) != second.logits(0)


def test_tokens_depend_on_their_neighbours() -> None:
    model = _load("scripted-kv:")
    apart = [model.tokenize(part, parse_special=False) for part in ("ret", "urn ")]
    assert len(model.tokenize("return ", parse_special=False)) < sum(len(part) for part in apart)


def test_special_tokens_stand_between_text() -> None:
    model = _load("scripted-kv:")
    tokens = model.tokenize("<|im_start|>user\nhi<|im_end|>", parse_special=True)
    assert b"".join(model.pieces(tokens)) == b"user\nhi"
    assert tokens[-1] in model.facts.vocab.end_tokens


# ---- cells


def test_shared_cells_are_counted_once() -> None:
    context = _kv()
    context.decode([Run(0, 0, [65] * 10)])
    context.share(0, 1, 6)
    assert context.used_cells == 10
    context.decode([Run(1, 6, [66] * 3)])
    assert context.used_cells == 13
    context.drop(0)
    assert context.used_cells == 9
    context.truncate(1, 2)
    assert context.used_cells == 2
    context.drop(1)
    assert context.used_cells == 0


def test_a_state_of_another_model_is_refused() -> None:
    context, other = _kv(), _kv("scripted-kv:weights=b")
    context.decode([Run(0, 0, [65] * 10)])
    with pytest.raises(BackendError, match="another model"):
        other.load(0, context.save(0))


def test_one_changed_bit_of_a_state_is_seen() -> None:
    context = _kv()
    context.decode([Run(0, 0, [65] * 3)])
    state = context.save(0)
    for index in range(len(state)):
        with pytest.raises(BackendError):
            context.load(1, state[:index] + bytes([state[index] ^ 1]) + state[index + 1 :])
    assert context.end(1) == 0


def test_what_is_closed_refuses() -> None:
    model = _load("scripted-kv:")
    context, sampler = cast("ScriptedKv", model.new_context(ContextSettings())), model.new_sampler(Sampling())
    context.decode([Run(0, 0, [65], want_logits=True)])
    sampler.close()
    with pytest.raises(BackendError):
        context.sample(0, sampler)
    model.close()
    for act in (lambda: context.end(0), lambda: context.logits(0), lambda: context.drop(0)):
        with pytest.raises(BackendError):
            act()
    with pytest.raises(BackendError):
        model.new_context(ContextSettings())


# ---- the form that takes prompts


def test_cached_tokens_are_the_longest_prefix_that_was_seen() -> None:
    context = cast("PromptContext", _load("scripted-prompt:").new_context(ContextSettings()))

    def ask(prompt: list[int], count: int = 1) -> tuple[int | None, list[int]]:
        answer = list(context.answer(prompt, Sampling(), count))
        return answer[0].cached_tokens, [each.token for each in answer]

    prompt = list(range(65, 95))
    assert ask(prompt)[0] == 0
    assert ask(prompt)[0] == 30
    assert ask([*prompt[:20], 65, 66])[0] == 20
    assert ask([64, *prompt])[0] == 0
    said, answer = ask(prompt, 5)
    assert said == 30
    # All of an answer but its last token was computed.
    assert len(answer) == 5
    assert ask(prompt + answer)[0] == 34


def test_a_silent_one_does_not_say() -> None:
    model = _load("scripted-prompt:silent=1")
    assert not model.facts.capabilities.reports_reuse
    context = cast("PromptContext", model.new_context(ContextSettings()))
    assert [each.cached_tokens for each in context.answer([65, 66], Sampling(), 1)] == [None]


def test_it_has_no_samplers_of_its_own() -> None:
    with pytest.raises(Unsupported):
        _load("scripted-prompt:").new_sampler(Sampling())


# ---- death

_LIFE = """
import sys
from sessiond.adapters.base import ContextSettings, ModelSettings, Run, Sampling
from sessiond.adapters.scripted import KV, PROMPT

name, extra_buffers = sys.argv[1], sys.argv[2] == "on"
adapter = KV if KV.accepts(name) else PROMPT
model = adapter.load(name, ModelSettings(extra_buffers=extra_buffers), lambda _: None)
print("loaded", flush=True)
context = model.new_context(ContextSettings())
if adapter is KV:
    for position in range(4):
        context.decode([Run(0, position, [65])])
        print("decoded", flush=True)
else:
    for _ in context.answer([65, 66], Sampling(), 4):
        print("decoded", flush=True)
"""


@pytest.mark.parametrize("form", ["scripted-kv", "scripted-prompt"])
@pytest.mark.parametrize(
    ("die", "extra_buffers", "status", "said"),
    [
        ("SIGSEGV@load", "on", -signal.SIGSEGV, []),
        ("SIGSEGV@restore", "on", 0, ["loaded"] + ["decoded"] * 4),
        ("SIGSEGV@first-decode", "on", -signal.SIGSEGV, ["loaded"]),
        ("SIGSEGV@first-decode", "off", 0, ["loaded"] + ["decoded"] * 4),
        ("SIGKILL@decode:3", "off", -signal.SIGKILL, ["loaded", "decoded", "decoded"]),
        ("SIGABRT@decode:9", "on", 0, ["loaded"] + ["decoded"] * 4),
    ],
)
def test_the_process_dies_where_it_is_told(
    form: str, die: str, extra_buffers: str, status: int, said: list[str]
) -> None:
    command = [sys.executable, "-c", _LIFE, f"{form}:die={die}", extra_buffers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (status, said), done.stderr
