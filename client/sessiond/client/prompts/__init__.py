"""Prompts as values: pieces that are joined with `+`, and what becomes of many of them at once.

    base = Prompt("You review code.\n") + Prompt.file("style.md")
    with client.prompts() as desk:
        for answer in desk.run([base + Prompt.file("a.py") + "Faults?", base + Prompt.file("b.py") + "Faults?"]):
            print(answer.text)
        print(desk.explain())

Each piece is tokenized by itself, and its KV depends on all that stands before it. So prompts that begin with the same pieces
begin with the same tokens, and these are computed once: exactly what each prompt by itself would have computed.
"""

from sessiond.client.prompts.answers import Answer, Scored
from sessiond.client.prompts.graph import Graph
from sessiond.client.prompts.prompt import Piece, Prompt

__all__ = ["Answer", "Graph", "Piece", "Prompt", "Scored"]
