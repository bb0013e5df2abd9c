"""The Python client of sessiond: what an editor's plugin or an agent imports.

    from sessiond.client import Client

    with Client() as client:
        session = client.open_session(workspace_root=".")
        for piece in session.ask("Where are the retries counted?"):
            print(piece, end="")

`Client` blocks, `AsyncClient` awaits; both answer with the contract's own messages and raise the exceptions of
`sessiond.v1.errors`. Importing this package loads nothing: each name loads its module when it is first used, so
that `sessionctl --help` never pays for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessiond.client.aio import (
        AsyncClient,
        AsyncFunction,
        AsyncPrompts,
        AsyncSession,
        AsyncStream,
        AsyncWorkspace,
    )
    from sessiond.client.prompts import Answer, Graph, Piece, Prompt, Scored
    from sessiond.client.requests import prefix_input, suffix_input
    from sessiond.client.sync import Client, Function, Prompts, Session, Stream, Workspace
    from sessiond.client.tls import Tls
    from sessiond.client.values import IncompleteValue
    from sessiond.v1.config_pb2 import Config, DecodeConfig
    from sessiond.v1.context_pb2 import ContextManifest, Message, PrefixInput, SegmentInput, SuffixInput
    from sessiond.v1.errors import (
        ContextOverflow,
        FunctionNotFound,
        InvalidInput,
        ManifestMismatch,
        PermissionDenied,
        SessionBusy,
        SessionClosed,
        SessiondError,
        SessionFatal,
        SessionNotFound,
        SessionUnavailable,
        UnsupportedFeature,
    )

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncFunction",
    "AsyncPrompts",
    "AsyncSession",
    "AsyncStream",
    "AsyncWorkspace",
    "Client",
    "Config",
    "ContextManifest",
    "ContextOverflow",
    "DecodeConfig",
    "Function",
    "FunctionNotFound",
    "Graph",
    "IncompleteValue",
    "InvalidInput",
    "ManifestMismatch",
    "Message",
    "PermissionDenied",
    "Piece",
    "PrefixInput",
    "Prompt",
    "Prompts",
    "Scored",
    "SegmentInput",
    "Session",
    "SessionBusy",
    "SessionClosed",
    "SessionFatal",
    "SessionNotFound",
    "SessionUnavailable",
    "SessiondError",
    "Stream",
    "SuffixInput",
    "Tls",
    "UnsupportedFeature",
    "Workspace",
    "prefix_input",
    "suffix_input",
]

_HOMES = {
    "sessiond.client.aio": (
        *("AsyncClient", "AsyncFunction", "AsyncPrompts", "AsyncSession", "AsyncStream", "AsyncWorkspace"),
    ),
    "sessiond.client.prompts": ("Answer", "Graph", "Piece", "Prompt", "Scored"),
    "sessiond.client.requests": ("prefix_input", "suffix_input"),
    "sessiond.client.sync": ("Client", "Function", "Prompts", "Session", "Stream", "Workspace"),
    "sessiond.client.tls": ("Tls",),
    "sessiond.client.values": ("IncompleteValue",),
    "sessiond.v1.config_pb2": ("Config", "DecodeConfig"),
    "sessiond.v1.context_pb2": ("ContextManifest", "Message", "PrefixInput", "SegmentInput", "SuffixInput"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Whatever is exported and stands in no other module is an error of the contract.
    found: object = getattr(importlib.import_module(_HOME.get(name, "sessiond.v1.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
