"""Grammars that answers must follow, for every backend: GBNF, followed byte by byte, with a bound on all it may cost."""

from sessiond.adapters.base.grammar.automaton import Automaton
from sessiond.adapters.base.grammar.faults import GrammarError
from sessiond.adapters.base.grammar.gbnf import MAX_REPEAT, MAX_TEXT, literal
from sessiond.adapters.base.grammar.guard import Automata, Draw, Guard
from sessiond.adapters.base.grammar.pieces import Pieces

__all__ = [
    "MAX_REPEAT",
    "MAX_TEXT",
    "Automata",
    "Automaton",
    "Draw",
    "GrammarError",
    "Guard",
    "Pieces",
    "literal",
]
