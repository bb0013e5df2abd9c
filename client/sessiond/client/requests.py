"""What is put into requests: the forms in which values may be given, and the messages made of them.

Every function here raises InvalidInput, naming the field, for a value that the message cannot hold: text that is not
valid Unicode, a number out of range, an unknown name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast

from google.protobuf.message import Message as ProtoMessage

from sessiond.v1 import config_pb2, context_pb2
from sessiond.v1.errors import invalid

M = TypeVar("M", bound=ProtoMessage)

SegmentLike: TypeAlias = context_pb2.SegmentInput | tuple[str, str]
"""A segment, or its id and text."""

MessageLike: TypeAlias = context_pb2.Message | tuple[str, str]
"""A message, or its role and content."""

FimLike: TypeAlias = context_pb2.FimInput | tuple[str, str]
"""A fill in the middle, or the texts before and after the cursor."""

PrefixLike: TypeAlias = context_pb2.PrefixInput | str
"""A prefix, or its text."""

WorkspaceLike: TypeAlias = context_pb2.WorkspaceInput | bool
"""The workspace's assembly with its settings, or whether to take it."""

Mode: TypeAlias = Literal["append", "replace"]
"""Where a suffix goes: after all that is resident, or after the prefix."""

PathLike: TypeAlias = str | os.PathLike[str]


class FreeSettings(TypedDict, total=False):
    """The fields of DecodeConfig as keyword arguments, but for those that decide what an answer is."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    frequency_penalty: float
    presence_penalty: float
    seed: int
    stop: Iterable[str]
    samplers: Iterable[str]
    grammar: str
    logit_bias: Iterable[config_pb2.LogitBias]
    logprobs: int
    speculation: config_pb2.Speculation.ValueType


class DecodeSettings(FreeSettings, total=False):
    """The fields of DecodeConfig, as keyword arguments."""

    json_schema: str
    choices: Iterable[str]


def made(kind: type[M], /, **fields: Any) -> M:
    """A message of these fields. Fields that are None stay unset."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind(**given)
    except (ValueError, TypeError):
        for name, value in given.items():  # which one was it? Set alone, it fails again
            try:
                kind(**{name: value})
            except (ValueError, TypeError) as error:
                raise invalid(name, str(error)) from error
        raise


def session_name(name: str) -> str:
    """`sessions/{id}`, also where only the id was given."""
    return name if "/" in name else f"sessions/{name}"


def absolute(path: PathLike | None) -> str:
    """An absolute path; empty stays empty."""
    told = os.fspath(path or "")
    return os.path.abspath(os.path.expanduser(told)) if told else ""  # noqa: PTH100, PTH111 - links stay as they are


def model_meant(model: object) -> object:
    """A model as it is told to the daemon, which runs in another folder: a path becomes absolute, a name stays one. What is no
    text is for the request to refuse.
    """
    if not isinstance(model, str):
        return model
    is_path = model.startswith(("./", "../", "~/")) or os.path.isfile(model)  # noqa: PTH113 - raises for nothing
    return absolute(model) if is_path else model


def prefix_input(
    text: str | None = None,
    *,
    segments: Iterable[SegmentLike] | None = None,
    workspace: WorkspaceLike = False,
    expect: context_pb2.ContextManifest | None = None,
) -> context_pb2.PrefixInput:
    """A prefix from at most one of a text, ordered segments, and the workspace's assembly. With none of them it is the
    empty prefix. `expect` None asks for no check, an empty manifest matches nothing.
    """
    _at_most_one(text=text, segments=segments, workspace=workspace or None)
    listed = None
    if segments is not None:
        listed = context_pb2.SegmentList(segments=[_segment(segment) for segment in segments])
    if workspace is True:
        workspace = context_pb2.WorkspaceInput()
    return made(
        context_pb2.PrefixInput, text=text, segments=listed, workspace=workspace or None, expect=expect
    )


def suffix_input(
    text: str | None = None,
    *,
    messages: Iterable[MessageLike] | None = None,
    fim: FimLike | None = None,
    mode: Mode | None = None,
    expect: context_pb2.ContextManifest | None = None,
) -> context_pb2.SuffixInput:
    """A suffix from at most one of a text, messages, and the texts around a cursor. With none of them it is empty.
    `mode` None leaves it to the daemon, which appends.
    """
    _at_most_one(text=text, messages=messages, fim=fim)
    listed = None
    if messages is not None:
        listed = context_pb2.MessageList(messages=[_message(message) for message in messages])
    if isinstance(fim, tuple):
        fim = fim_input(*fim)
    return made(context_pb2.SuffixInput, text=text, messages=listed, fim=fim, mode=_mode(mode), expect=expect)


def fim_input(
    before: str, after: str = "", path: str = "", *, suffix_first: bool = False
) -> context_pb2.FimInput:
    """The texts around a cursor in the file at `path`, relative to the workspace root. `suffix_first` gives the model the text
    after the cursor first: for models that were trained with it.
    """
    layout = context_pb2.FIM_LAYOUT_SUFFIX_FIRST if suffix_first else None
    return made(context_pb2.FimInput, before=before, after=after, path=path, layout=layout)


def prefix_of(prefix: PrefixLike) -> context_pb2.PrefixInput:
    """A prefix that may have been given as its text."""
    return prefix_input(prefix) if isinstance(prefix, str) else prefix


def decode_config(
    config: config_pb2.DecodeConfig | None, settings: DecodeSettings
) -> config_pb2.DecodeConfig:
    """How tokens are chosen: `config`, with `settings` over it."""
    chosen = config_pb2.DecodeConfig()
    if config is not None:
        chosen.CopyFrom(config)
    over = made(config_pb2.DecodeConfig, **settings)
    cleared = cast("ProtoMessage", chosen)  # the stub's own ClearField knows the names only as literals
    for field in settings:  # assigned, not merged: a list replaces a list, and a 0 counts
        cleared.ClearField(field)
    chosen.MergeFrom(over)
    return chosen


def _at_most_one(**sources: object) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise invalid(given[1], f"give at most one of {', '.join(sources)}")


def _segment(segment: SegmentLike) -> context_pb2.SegmentInput:
    if isinstance(segment, context_pb2.SegmentInput):
        return segment
    name, text = segment
    return made(context_pb2.SegmentInput, id=name, text=text)


def _message(message: MessageLike) -> context_pb2.Message:
    if isinstance(message, context_pb2.Message):
        return message
    role, content = message
    return made(context_pb2.Message, role=role, content=content)


def _mode(mode: Mode | None) -> context_pb2.SuffixMode.ValueType | None:
    if mode is None:
        return None
    modes = {"append": context_pb2.SUFFIX_MODE_APPEND, "replace": context_pb2.SUFFIX_MODE_REPLACE}
    if mode not in modes:
        raise invalid("mode", f"{mode!r} is none of {', '.join(modes)}")
    return modes[mode]
