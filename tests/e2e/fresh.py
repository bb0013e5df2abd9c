"""What a daemon serves of a workspace, beside what the files say: one assembly that has seen nothing before."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.daemon.engine.scripted import kv_context, load

from sessiond.adapters.base import Run, Sampling
from sessiond.client import Config, Session
from sessiond.daemon.sessions.manifest import token_hash
from sessiond.daemon.sessions.sources import WORKSPACE_SHARE
from sessiond.daemon.workspace.assemble import Assembly, assemble
from sessiond.daemon.workspace.filling import framed
from sessiond.daemon.workspace.wishes import NO_WISHES, Wishes
from sessiond.v1.context_pb2 import PrefixStatus

MODEL = "scripted-kv:"
_MODEL = load(MODEL)
_ANSWER = 4
"""Tokens. Each is a function of exactly the tokens before it, so a single wrong one in the prefix shows."""


def window(num_ctx: int = 4096) -> Config:
    """Without frames: the prefix is the files and nothing else."""
    return Config(num_ctx=num_ctx, prompt_format="raw", disable_bos=True)


def digest(text: str) -> str:
    """As a manifest says it."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: str, content: str) -> str:
    """What a manifest says of a file with this content."""
    return digest(framed(path, content))


def fresh(root: Path, num_ctx: int = 4096, wishes: Wishes = NO_WISHES) -> Assembly:
    """The workspace as it is now, for a window of this size."""

    def count(texts: Sequence[str]) -> list[int]:
        return [len(_MODEL.tokenize(text, parse_special=False)) for text in texts]

    return assemble(root, count, int(num_ctx * WORKSPACE_SHARE), wishes)


def served(session: Session) -> dict[str, str]:
    """The hash of each segment that the session was brought to last, by its path, or its id if it has none."""
    return {told.path or told.id: told.byte_hash for told in session.explain().manifest.segments}


def assert_fresh(
    session: Session, root: Path, num_ctx: int = 4096, wishes: Wishes = NO_WISHES
) -> tuple[PrefixStatus, str]:
    """Asks for the prefix, and holds it against a fresh assembly: its bytes, its tokens, and the KV it stands on.

    Nothing may change meanwhile. Returns what the daemon said, and the text of the prefix.
    """
    status = session.ensure_prefix(workspace=True).status
    report = session.explain()
    made = fresh(root, num_ctx, wishes)
    texts = {segment.id: segment.text for segment in made.segments}
    assert {told.id: told.byte_hash for told in report.manifest.segments} == {
        name: digest(text) for name, text in texts.items()
    }
    assert [(told.path, told.reason) for told in report.left_out] == [
        (entry.path, entry.reason) for entry in made.left_out
    ]
    # The order is the daemon's to choose, and may hold still where a fresh assembly would begin anew.
    ordered = [texts[told.id] for told in report.manifest.segments]
    text = "".join(ordered)
    assert status.stable_byte_hash == digest(text)
    runs = [_MODEL.tokenize(each, parse_special=False) for each in ordered]
    tokens = [token for run in runs for token in run]
    assert (status.prefix_tokens, status.stable_token_hash) == (len(tokens), token_hash(tokens))
    if tokens:
        assert _answer_of(session) == _answer_to(tokens)
    return status, text


def _answer_of(session: Session) -> list[int]:
    chunks = session.decode(max_tokens=_ANSWER, temperature=0)
    return [token for chunk in chunks for token in chunk.token_ids][:_ANSWER]


def _answer_to(tokens: list[int]) -> list[int]:
    """The greedy answer of a context that has seen nothing else, without its end token."""
    size = len(tokens) + _ANSWER
    context = kv_context(_MODEL, num_ctx=size, num_batch=size)
    sampler = _MODEL.new_sampler(Sampling())
    new, found = tokens, list[int]()
    while len(found) < _ANSWER:
        context.decode([Run(0, context.end(0), new, want_logits=True)])
        token = context.sample(0, sampler)
        if token in _MODEL.facts.vocab.end_tokens:
            break
        new = [token]
        found.append(token)
    return found


@dataclass(slots=True)
class _Version:
    """One content of a file, and when it began to be there: at some moment between the two."""

    digest: str
    earliest: float
    latest: float = math.inf


class Journal:
    """Saves files, and remembers what each of them said at what time. One thread saves, another may ask."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._versions: dict[str, list[_Version]] = {}

    def save(self, path: str, content: str, *, in_place: bool = False) -> None:
        """As editors do: a file beside it, then a rename. `in_place` it is empty for a moment. The file exists."""
        place = self._root / path
        if path not in self._versions:
            self._versions[path] = [_Version(digest_of_file(path, place.read_text()), -math.inf, -math.inf)]
        if in_place:
            with self._becomes(path, ""):
                file = place.open("wb", buffering=0)
            with file, self._becomes(path, content):
                file.write(content.encode())
        else:
            beside = place.with_name(f".{place.name}.new")
            beside.write_bytes(content.encode())
            with self._becomes(path, content):
                beside.replace(place)

    @contextmanager
    def _becomes(self, path: str, content: str) -> Generator[None, None, None]:
        version = _Version(digest_of_file(path, content), time.monotonic())
        self._versions[path].append(version)
        yield
        version.latest = time.monotonic()

    def ensure(self, session: Session) -> None:
        """Asks for the prefix. Whatever is served must have been in its file at some moment of the request."""
        began = time.monotonic()
        session.ensure_prefix(workspace=True)
        ended = time.monotonic()
        told = served(session)
        for path, versions in list(self._versions.items()):
            assert told.get(path) in self._within(list(versions), began, ended), path

    @staticmethod
    def _within(versions: list[_Version], began: float, ended: float) -> set[str]:
        over = [later.latest for later in versions[1:]] + [ended]
        return {
            version.digest
            for version, end in zip(versions, over, strict=True)
            if version.earliest <= ended and end >= began
        }
