"""A suffix: messages in their frames, as tokens. Content is tokenized with special tokens off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.daemon.engine.frames import RAW
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.engine.seat import Texts
from sessiond.daemon.sessions.fim import FimRequest, build_fim
from sessiond.v1.errors import invalid

ROLES = ("system", "user", "assistant")
FIM_ROLE = "fim"
"""Stands among the roles for a fill in the middle, which is no message: none can follow it in a frame."""
STANDING_ROLES = (*ROLES, FIM_ROLE)
"""All that may be among the roles of what stands."""
MAX_ROLES = 1 << 12
"""Messages of a conversation, the last answer among them. Every turn has the template rendered around all of them."""


@dataclass(frozen=True, slots=True)
class MessageInput:
    """One message."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class SuffixRequest:
    """What a turn adds. Exactly one of `text`, `messages`, `fim`; all None is the empty text."""

    text: str | None = None
    messages: tuple[MessageInput, ...] | None = None
    fim: FimRequest | None = None
    replace: bool = False
    """After the prefix instead of after all that is resident."""
    expect: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Suffix:
    """Tokens to add, and the roles of the conversation after them."""

    tokens: list[int]
    roles: tuple[str, ...]
    fim_before: str = ""
    """What was taken of the text before the cursor."""
    fim_after: str = ""


async def build_suffix(
    engine: Texts, prompt_format: str, request: SuffixRequest, roles: Sequence[str], room: int
) -> Suffix:
    """Frame what the turn adds, given the roles of what stands before it. A fill in the middle is cut to `room` tokens.

    Raises InvalidInput, and as `build_fim`.
    """
    if request.fim is not None:
        fill = await build_fim(engine, request.fim, room)
        again = tuple(roles[-1:]) == (FIM_ROLE,)
        standing = tuple(roles) if again else (*roles, FIM_ROLE)
        return Suffix(fill.tokens, standing, fill.before, fill.after)
    added = _messages(request)
    after = (*roles, *(message.role for message in added))
    if added and len(after) >= MAX_ROLES:
        raise invalid("suffix.messages", f"with an answer there would be more than {MAX_ROLES} messages")
    if prompt_format == RAW:
        runs = await engine.tokenize([message.content for message in added])
        return Suffix([token for run in runs for token in run], after)
    if not added:
        return Suffix([], after)
    if FIM_ROLE in roles:
        raise invalid("suffix.mode", "a conversation does not go on after a fill in the middle: REPLACE it")
    try:
        framing = await engine.framing(prompt_format, after)
    except EngineFailed as failed:
        if failed.kind != "setting":
            raise
        raise invalid(
            "suffix.messages", f"the prompt format does not allow these roles: {failed}"
        ) from failed
    contents = await engine.tokenize([message.content for message in added])
    tokens: list[int] = []
    # Behind a question stands already what opens an answer: one that the client gives goes on there.
    is_open = tuple(roles[-1:]) == ("user",) and added[0].role == "assistant"
    for index, run in enumerate(contents, start=len(roles)):
        opening = () if is_open and index == len(roles) else framing.runs[index]
        tokens += [*opening, *run]
    return Suffix([*tokens, *framing.runs[-1]], after)


def _messages(request: SuffixRequest) -> list[MessageInput]:
    if request.messages is not None:
        for index, message in enumerate(request.messages):
            if message.role not in ROLES:
                raise invalid(
                    f"suffix.messages[{index}].role", f"{message.role!r} is none of {', '.join(ROLES)}"
                )
        return list(request.messages)
    return [MessageInput("user", request.text)] if request.text else []
