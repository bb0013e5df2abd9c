"""From the texts of a workspace to the text of its map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sessiond.daemon.workspace.repo_map.definitions import Outline
from sessiond.daemon.workspace.repo_map.fit import most_that_fit
from sessiond.daemon.workspace.repo_map.languages import language_of
from sessiond.daemon.workspace.repo_map.parser import Parser
from sessiond.daemon.workspace.repo_map.rank import ranked
from sessiond.daemon.workspace.repo_map.remembered import MEMORY
from sessiond.daemon.workspace.repo_map.render import render

MAX_FILE_BYTES = 256 * 1024
"""A larger file is data, or made by a program."""
MAX_TOTAL_BYTES = 32 * 1024 * 1024
MAX_TOTAL_DEFINITIONS = 100_000
MAX_GIVEN_UP = 20
"""Files that may be too costly to parse. Where there are more, they are no accident."""

TokenCounter = Callable[[Sequence[str]], list[int]]
"""The number of tokens of each text."""


def repo_map(texts: Sequence[tuple[str, str]], count_tokens: TokenCounter, max_tokens: int) -> str:
    """The definitions of those of `texts` (pairs of relative path and content) whose language is known.

    One line for each file, and below it one for each definition, indented by what it stands in. Files stand in the
    order of their paths, definitions in that of the file. If not all fit into `max_tokens` tokens, those go in to
    which most other files refer. "" if nothing can be mapped, or nothing fits.

    The same texts give the same answer, byte for byte, whatever their order. Whatever stands in them raises
    nothing; files beyond the limits of this module are passed over. `count_tokens` is called a few times, with a
    few texts each, and what it raises goes through.
    """
    if max_tokens <= 0:
        return ""
    with Parser() as parser:
        outlined = list(_outlined(dict(sorted(texts)).items(), parser))
    order = ranked(outlined)

    def tokens_of(counts: Sequence[int]) -> list[int]:
        return count_tokens([render(outlined, order[:count]) for count in counts])

    return render(outlined, order[: most_that_fit(tokens_of, len(order), max_tokens)])


def _outlined(texts: Iterable[tuple[str, str]], parser: Parser) -> Iterator[tuple[str, Outline]]:
    """Each path with what its text defines and refers to, as far as the limits go."""
    bytes_left, definitions_left, given_up_left = MAX_TOTAL_BYTES, MAX_TOTAL_DEFINITIONS, MAX_GIVEN_UP
    for path, content in texts:
        language = language_of(path)
        # Each character has a byte at least: what is far too large is not even encoded.
        if language is None or len(content) > MAX_FILE_BYTES:
            continue
        source = content.encode(errors="replace")
        if len(source) > min(MAX_FILE_BYTES, bytes_left):
            continue
        try:
            outline = MEMORY.outline_of(language, source, parser.outline)
        except OSError as error:
            import structlog  # late: the parser's process imports this package and must start fast

            structlog.get_logger(__name__).warning("repo_map.no_parser", error=str(error))
            return
        bytes_left -= len(source)
        definitions_left -= len(outline.definitions)
        given_up_left -= outline.given_up
        if definitions_left < 0 or given_up_left < 0:
            return
        yield path, outline
