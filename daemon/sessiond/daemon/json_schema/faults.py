"""What is wrong with a schema."""

from __future__ import annotations


class SchemaError(ValueError):
    """The schema is malformed, or asks for what no grammar here can keep; says which part, and why.

    The part is a JSON pointer with numbers in place of the names of members: messages are logged, and names are the words
    of users.
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where[:200]}: {what}")
