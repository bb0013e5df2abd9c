"""How messages are framed: a chat template, rendered with placeholders as content and cut there.

What stands between the placeholders is spliced in as tokens around the content, which is never rendered. So
every template is prefix-stable, also one that closes each message, and content cannot forge a turn.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jinja2
import jinja2.sandbox

MAX_TEMPLATE = 1 << 18
"""Characters. Longer ones are no chat templates."""

RAW = "raw"
"""The format without frames: text follows text."""

NAMED = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content']"
        " + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
}
"""Templates by name, beside the model's own."""

_SEPARATOR = "\n\n"
"""Between a prefix and the first message where the template knows no system role."""


class FrameError(ValueError):
    """The template cannot be used, and why."""


def template_source(prompt_format: str, own_template: str) -> str:
    """The template of a format: "" is the model's own (ChatML where it has none). Raises FrameError."""
    if prompt_format == RAW:
        return ""
    if prompt_format == "" and own_template:
        return own_template
    name = prompt_format or "chatml"
    if name not in NAMED:
        raise FrameError(f"{name!r} is none of {RAW}, {', '.join(sorted(NAMED))}")
    return NAMED[name]


def source_digest(source: str) -> str:
    """SHA-256 of a template."""
    return hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()


def frame(source: str, roles: Sequence[str], eos_text: str) -> list[str]:
    """The texts before, between and after messages of these roles: one more than there are roles.

    A leading "system" stands for the prefix; where the template knows no system role, the prefix opens the first
    message of the user. After a last "assistant" nothing stands: its text goes on. Raises FrameError.
    """
    if not source:
        return [""] * (len(roles) + 1)
    marks = [f"\ue000{index}\ue000" for index in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    asks = not roles or roles[-1] != "assistant"
    try:
        pieces = _cut(_render(source, messages, eos_text, ask=asks), marks)
    except FrameError:
        if list(roles[:2]) != ["system", "user"]:
            raise
        merged = {"role": "user", "content": marks[0] + _SEPARATOR + marks[1]}
        pieces = _cut(_render(source, [merged, *messages[2:]], eos_text, ask=asks), marks)
    if not asks:
        pieces[-1] = ""
    return pieces


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    pieces: list[str] = []
    end = 0
    for mark in marks:
        # Not by cutting the text down: to copy the rest for each message takes time with the square of their number.
        start = text.find(mark, end)
        if start < 0:
            raise FrameError("the template does not keep every message in its place")
        pieces.append(text[end:start])
        end = start + len(mark)
    pieces.append(text[end:])
    if any("\ue000" in piece for piece in pieces):
        raise FrameError("the template repeats a message")
    return pieces


def _render(source: str, messages: Sequence[dict[str, str]], eos_text: str, *, ask: bool) -> str:
    try:
        return _compile(source).render(
            messages=list(messages),
            add_generation_prompt=ask,
            bos_token="",  # the daemon's own policy decides on the opening token
            eos_token=eos_text,
        )
    except Exception as error:
        raise FrameError(f"the template failed: {type(error).__name__}: {error}") from error


@functools.lru_cache(maxsize=16)
def _compile(source: str) -> jinja2.Template:
    if len(source) > MAX_TEMPLATE:
        raise FrameError(f"the template has more than {MAX_TEMPLATE} characters")
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
        # The output is a prompt, never HTML, and content is not even in it.
        autoescape=False,
    )
    offered: dict[str, Any] = {"raise_exception": _raise}
    # A date in a frame would change the prefix every day. A template that asks for one gets a fixed day.
    offered["strftime_now"] = dt.datetime(2025, 1, 1, tzinfo=dt.UTC).strftime
    environment.globals.update(offered)
    return environment.from_string(source)


def _raise(message: str) -> None:
    raise FrameError(message)
