"""Frames: a template's text around messages, cut where their content stands."""

from __future__ import annotations

import itertools

import pytest

from sessiond.daemon.engine.frames import (
    MAX_TEMPLATE,
    NAMED,
    RAW,
    FrameError,
    frame,
    source_digest,
    template_source,
)

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + (m['role'] if m['role'] == 'user' else 'model') + '\n' + (m['content'] | trim)"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
CLOSES_AT_THE_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}THE END"
KEPT = {"smollm2": SMOLLM2, "chatml": NAMED["chatml"], "llama3": NAMED["llama3"], "closes": CLOSES_AT_THE_END}


def test_smollm2() -> None:
    assert frame(SMOLLM2, ["system", "user"], "") == [
        "<|im_start|>system\n",
        "<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ]
    opening = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    )
    assert frame(SMOLLM2, ["user"], "") == [
        f"{opening}<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_named_formats() -> None:
    assert frame(NAMED["chatml"], ["user", "assistant", "user"], "") == [
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ]
    assert frame(NAMED["llama3"], ["system", "user"], "") == [
        "<|start_header_id|>system<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ]


def test_no_roles_and_no_template() -> None:
    assert frame(NAMED["chatml"], [], "") == ["<|im_start|>assistant\n"]
    assert frame("", ["system", "user"], "") == ["", "", ""]


def test_after_a_last_answer_nothing_stands() -> None:
    assert frame(SMOLLM2, ["user", "assistant"], "")[-1] == ""


@pytest.mark.parametrize("source", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_prefix_opens_the_first_message_where_there_is_no_system_role(source: str) -> None:
    pieces = frame(source, ["system", "user", "assistant", "user"], "</s>")
    assert pieces[1] == "\n\n"
    assert pieces[0] == frame(source, ["user"], "</s>")[0]
    assert pieces[2:] == frame(source, ["user", "assistant", "user"], "</s>")[1:]


@pytest.mark.parametrize("roles", [["user", "user"], ["assistant"], ["system"], ["system", "assistant"]])
def test_an_order_of_roles_that_the_template_refuses(roles: list[str]) -> None:
    with pytest.raises(FrameError):
        frame(NO_SYSTEM, roles, "")


@pytest.mark.parametrize("name", [*KEPT, "no system", "drops system"])
@pytest.mark.parametrize("first", [["system"], []])
def test_a_shared_beginning_has_the_same_pieces(name: str, first: list[str]) -> None:
    source = {**KEPT, "no system": NO_SYSTEM, "drops system": DROPS_SYSTEM}[name]
    roles = [*first, *itertools.islice(itertools.cycle(["user", "assistant"]), 12)]
    whole = frame(source, roles, "</s>")
    for size in range(len(first) + 1, len(roles)):
        assert frame(source, roles[:size], "</s>")[:size] == whole[:size]


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[0].content }}",
        "{{ messages[0].content }}{% for m in messages %}|{{ m.content }}{% endfor %}",
        "{% for m in messages | reverse %}{{ m.content }}|{% endfor %}",
        "{% for m in messages %}{{ m.content | length }}{% endfor %}",
        "{{ messages[1].content }}",
        "nothing at all",
        "{% for m in messages %}{{ m.content[1:] }}{% endfor %}",
    ],
)
def test_content_that_is_repeated_moved_changed_or_dropped(source: str) -> None:
    with pytest.raises(FrameError):
        frame(source, ["user", "assistant", "user"], "")


def test_a_prefix_that_is_repeated_is_found_also_before_the_next_message() -> None:
    source = "{% for m in messages %}{% if loop.first %}{{ m.content }}{% endif %}{{ m.content }}{% endfor %}"
    with pytest.raises(FrameError):
        frame(source, ["system", "user"], "")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__.__class__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ messages.append(1) }}",
        "{% set _ = messages.clear() %}",
        "{{ messages[0].update(a=1) }}",
        "{{ '%s'.format.__self__ | attr('__class__') }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ lipsum.__globals__['os'].popen('id') }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{% for m in messages %}",
        "{{ no_such_thing.at_all }}",
        "{% break %}",
    ],
)
def test_what_a_template_must_not_do(source: str) -> None:
    # With nothing to cut, only the rendering itself can fail.
    kept = "{% for m in messages %}{{ m.content }}{% endfor %}"
    try:
        pieces = frame(source + kept, ["user"], "")
    except FrameError:
        return
    assert "class" not in "".join(pieces) and "object" not in "".join(pieces), f"got {pieces}"


@pytest.mark.parametrize(
    "source",
    ["x" * (MAX_TEMPLATE + 1), "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "{% if 1 %}" * 2_000],
)
def test_a_template_that_is_too_much(source: str) -> None:
    with pytest.raises(FrameError):
        frame(source, ["user"], "")


def test_no_opening_token_and_a_fixed_day() -> None:
    source = "{{ bos_token }}{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert frame(source, ["user"], "") == ["2025", ""]
    assert frame(source, ["user"], "</s>", "<s>") == ["2025", ""]


def test_an_opening_token_at_each_question_is_left_out_at_the_first_only() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    assert frame(source, ["user", "assistant", "user"], "</s>", "<s>") == [
        "[INST] ",
        " [/INST]",
        "</s><s>[INST] ",
        " [/INST]",
    ]


@pytest.mark.parametrize("source", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_system_message_of_a_client_follows_the_prefix(source: str) -> None:
    whole = frame(source, ["system", "system", "user", "assistant", "user"], "</s>")
    assert whole[1:3] == ["\n\n", "\n\n"]
    assert [whole[0], *whole[3:]] == frame(source, ["user", "assistant", "user"], "</s>")


def test_tools_are_none_and_marks_of_training_are_passed_over() -> None:
    source = (
        "{% if tools is not none %}TOOLS{% endif %}{% if documents %}DOCUMENTS{% endif %}"
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}"
    )
    assert frame(source, ["user"], "") == ["", "|"]


def test_an_answer_begins_as_one_that_is_asked_for() -> None:
    """Also where the template closes an answer that it takes for the last, or thinks for it."""
    source = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
        "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% else %}THE END{% endif %}"
    )
    assert frame(source, ["user", "assistant"], "") == ["<user>", "<assistant>", ""]


def test_formats_by_name() -> None:
    assert template_source(RAW, "own") == ""
    assert template_source("", "own") == "own"
    assert template_source("", "") == NAMED["chatml"]
    assert template_source("llama3", "own") == NAMED["llama3"]
    with pytest.raises(FrameError, match="'own'"):
        template_source("own", "own")
    assert len({source_digest(source) for source in NAMED.values()}) == len(NAMED)


@pytest.mark.parametrize(
    "more", ["{{ '\\ud800' }}", "{{ raise_exception('\\udfff') }}", "{{ '\\ud83d' + '\\ude12' }}"]
)
def test_half_a_character_is_a_fault_that_can_be_told(more: str) -> None:
    with pytest.raises(FrameError) as raised:
        frame(CLOSES_AT_THE_END + more, ["user"], "")
    assert str(raised.value).encode("utf-8")
