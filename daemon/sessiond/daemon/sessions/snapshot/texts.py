"""The texts of a snapshot make no more tokens than it claims: known before any of them is kept, or a header of a few megabytes
would have the daemon hold millions of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot.faults import refused
from sessiond.daemon.sessions.snapshot.format import Header

LONGEST_TOKEN = 256
"""Bytes of text that one token stands for, at most. The longest ones in use are runs of 128 spaces."""
AT_ONCE = 1 << 18
"""Characters that are tokenized together. A longer text is cut for this, and only then tokenized as a whole."""


async def check_texts(session: Session, header: Header) -> None:
    """Raises InvalidInput that names the path if the texts make many more tokens than the prefix has, and what ended the
    session.
    """
    texts = [segment.text for segment in header.segments]
    if sum(len(text.encode()) for text in texts) > header.prefix_tokens * LONGEST_TOKEN:
        raise refused("its texts are longer than its tokens")
    is_cut = any(len(text) > AT_ONCE for text in texts)
    # A cut may make other tokens around it, and more of them.
    most, count = header.prefix_tokens * (2 if is_cut else 1), 0
    for together in _batches(texts):
        session.check_alive()
        count += sum(map(len, await session.home.seat.tokenize(together)))
        if count > most:
            raise refused("its tokens are not those of its texts")


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """All of them, a part after the other."""
    batch, size = list[str](), 0
    for part in (text[at : at + AT_ONCE] for text in texts for at in range(0, len(text), AT_ONCE)):
        if batch and size + len(part) > AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part)
    if batch:
        yield batch
