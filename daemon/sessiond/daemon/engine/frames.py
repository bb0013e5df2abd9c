"""How messages are framed: a chat template, rendered with placeholders as content and cut there.

What stands between the placeholders is spliced in as tokens around the content, which is never rendered. So
every template is prefix-stable, also one that closes each message, and content cannot forge a turn.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

MAX_TEMPLATE = 1 << 18
"""Characters. Longer ones are no chat templates."""
MAX_RENDERED = 1 << 22
"""Characters. Frames around 4,096 messages are shorter."""

MAX_FAULT = 500
"""Characters that are told of what a template complains of."""

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

_ASKS = "add_generation_prompt"
"""What a template looks at that can open an answer."""

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


def frame(source: str, roles: Sequence[str], eos_text: str, bos_text: str = "") -> list[str]:
    """The texts before, between and after messages of these roles: one more than there are roles.

    A leading "system" stands for the prefix; where the template knows no system role, or no second one, what is to come
    first opens the first message that it knows. After a last "assistant" nothing stands: its text goes on, and it begins as
    an answer would. A token that opens a text does not open the first one: see `Identity.add_bos`. Raises FrameError.
    """
    if not source:
        return [""] * (len(roles) + 1)
    if list(roles[-2:]) == ["user", "assistant"]:
        return [*frame(source, roles[:-1], eos_text, bos_text), ""]
    if roles and roles[-1] == "user" and _ASKS not in source:
        # It knows no way to ask for an answer: what it puts before one is that.
        return _framed(source, [*roles, "assistant"], eos_text, bos_text)[:-1]
    return _framed(source, roles, eos_text, bos_text)


def _framed(source: str, roles: Sequence[str], eos_text: str, bos_text: str) -> list[str]:
    marks = [f"\ue000{index}\ue000" for index in range(len(roles))]
    asks = not roles or roles[-1] != "assistant"
    refused: FrameError | None = None
    for messages in _ways(roles, marks):
        try:
            pieces = _cut(_render(source, messages, eos_text, bos_text, ask=asks), marks)
        except FrameError as error:
            refused = refused or error
            continue
        if bos_text:
            pieces[0] = pieces[0].removeprefix(bos_text)
        return _opened(pieces if asks else [*pieces[:-1], ""], roles)
    assert refused is not None
    raise refused


def _opened(pieces: list[str], roles: Sequence[str]) -> list[str]:
    """A space before an answer is the answer's own: models learnt it as a part of its first token, and say it themselves."""
    opens = [*(role == "assistant" for role in roles), bool(roles) and roles[-1] != "assistant"]
    return [piece.rstrip(" ") if opens_one else piece for piece, opens_one in zip(pieces, opens, strict=True)]


def _ways(roles: Sequence[str], marks: Sequence[str]) -> Iterator[list[dict[str, str]]]:
    """The messages as they are; with those of the system that come first as one; with these as the first user's opening."""
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    yield messages
    first = next((index for index, role in enumerate(roles) if role != "system"), len(roles))
    if first > 1:
        yield [{"role": "system", "content": _SEPARATOR.join(marks[:first])}, *messages[first:]]
    if first > 0 and roles[first : first + 1] == ["user"]:
        yield [{"role": "user", "content": _SEPARATOR.join(marks[: first + 1])}, *messages[first + 1 :]]


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    if _sendable(text) != text:
        raise FrameError("the template writes half a character, which is no text")
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


def _render(
    source: str, messages: Sequence[dict[str, str]], eos_text: str, bos_text: str, *, ask: bool
) -> str:
    try:
        # All that the most used renderer gives every template, so that what they ask of it is answered alike here.
        stream = _compile(source).generate(
            messages=list(messages),
            **{_ASKS: ask},
            bos_token=bos_text,
            eos_token=eos_text,
            tools=None,
            documents=None,
        )
        parts: list[str] = []
        size = 0
        for part in stream:
            size += len(part)
            if size > MAX_RENDERED:
                raise FrameError(f"it has more than {MAX_RENDERED} characters")
            parts.append(part)
        return "".join(parts)
    except Exception as error:
        said = _sendable(str(error)[:MAX_FAULT])
        raise FrameError(f"the template failed: {type(error).__name__}: {said}") from error


def _sendable(text: str) -> str:
    """With an escape for each surrogate that stands alone: a template can write one, and no UTF-8 has it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what a model is trained on, and changes nothing of what is rendered."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Its body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=16)
def _compile(source: str) -> jinja2.Template:
    if len(source) > MAX_TEMPLATE:
        raise FrameError(f"the template has more than {MAX_TEMPLATE} characters")
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", Generation],
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
