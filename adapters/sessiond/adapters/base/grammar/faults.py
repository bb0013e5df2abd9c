"""What is wrong with a grammar."""

from __future__ import annotations


class GrammarError(ValueError):
    """The text is no grammar, or one that costs more than a grammar may; says in one sentence what and where.

    None of its names are in that sentence, for messages are logged, and grammars are the words of users.
    """
