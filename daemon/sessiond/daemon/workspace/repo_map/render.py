"""The text of the map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sessiond.daemon.workspace.repo_map.definitions import Outline
from sessiond.daemon.workspace.repo_map.one_line import one_line
from sessiond.daemon.workspace.repo_map.rank import Place

MAX_PATH = 400
"""Characters."""


def render(outlined: Sequence[tuple[str, Outline]], chosen: Iterable[Place]) -> str:
    """The chosen definitions below their files, in the order of `outlined`, whatever the order of `chosen`.

    One blank for each level: most vocabularies have a token for a word with one blank before it.
    """
    lines: list[str] = []
    last_file = -1
    for file, index in sorted(chosen):
        path, outline = outlined[file]
        if file != last_file:
            lines.append(f"{one_line(path, MAX_PATH)}:\n")
            last_file = file
        definition = outline.definitions[index]
        lines.append(f"{' ' * (definition.depth + 1)}{definition.signature}\n")
    return "".join(lines)
