"""Keeps one answer within its grammar."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from sessiond.adapters.base.errors import SettingsError
from sessiond.adapters.base.grammar.automaton import Automaton
from sessiond.adapters.base.grammar.faults import GrammarError
from sessiond.adapters.base.grammar.pieces import Pieces

TRIES = 8
"""Tokens that are tried before all that are allowed are looked up. A model mostly wants what its grammar allows, and one
look at a token takes microseconds, while one at a vocabulary may take a tenth of a second."""

REMEMBERED = 8
"""Grammars whose machines are kept for the next answer."""

Draw = Callable[[Sequence[int], Sequence[int] | None], int]
"""Draws a token: not one of the first ones, and one of the second ones, if any are given."""


class Automata:
    """The machines of the grammars that came last. In one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Automaton] = OrderedDict()

    def of(self, grammar: str) -> Automaton:
        """Raises SettingsError for a grammar that is none."""
        found = self._known.pop(grammar, None)
        if found is None or found.full:
            try:
                found = Automaton(grammar)
            except GrammarError as error:
                raise SettingsError("grammar", str(error)) from error
        self._known[grammar] = found
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found


class Guard:
    """What a grammar allows after the tokens that were taken. One for each answer."""

    def __init__(self, automaton: Automaton, pieces: Pieces) -> None:
        self._automaton = automaton
        self._pieces = pieces
        self._state = automaton.start

    @property
    def ended(self) -> bool:
        """Whether the grammar is complete, and nothing can follow."""
        return self._state.ended

    def choose(self, draw: Draw) -> int:
        """Draw until the grammar allows what comes, and take that. Raises SettingsError where it allows nothing, or takes
        more than it may.

        To draw again without what was refused gives each allowed token the share that it has among the allowed ones, as
        a look at all of them would; only samplers that cut some off (top_k, top_p and their like) cut from what is left then.
        """
        self._automaton.allow()
        try:
            return self._choose(draw)
        except GrammarError as error:
            raise SettingsError("grammar", str(error)) from error

    def _choose(self, draw: Draw) -> int:
        refused: list[int] = []
        for _ in range(TRIES):
            token = draw(refused, None)
            if self._take(token):
                return token
            refused.append(token)
        allowed = self._pieces.allowed(self._automaton, self._state)
        if not allowed:
            raise GrammarError("allows nothing here that this vocabulary has")
        token = draw((), allowed)
        self._take(token)
        return token

    def _take(self, token: int) -> bool:
        if token in self._pieces.end_tokens:
            return self._state.may_end
        after = self._pieces.after(self._automaton, self._state, token)
        if after is not None:
            self._state = after
        return after is not None
