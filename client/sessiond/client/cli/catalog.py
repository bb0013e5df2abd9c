"""All commands by name: where they stand, and their short help, so that `--help` need not load them."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One command: its module below `sessiond.client.cli`, the name of the command object there, and its short help."""

    module: str
    attribute: str
    help: str


CATALOG: dict[str, Entry] = {
    "ask": Entry("ask", "ask", "Ask a question about a folder and stream the answer."),
    "close": Entry("sessions", "close", "Close a session and free what it holds."),
    "completion": Entry("completion", "completion", "Print the completion script of a shell."),
    "embed": Entry("models", "embed", "Show the vectors of texts."),
    "ensure": Entry("ensure", "ensure", "Make a session's prefix hot."),
    "explain": Entry("explain", "explain", "Show what is resident, and why the rest is not."),
    "fill": Entry("fill", "fill", "Fill in what stands at a place of a file."),
    "fn": Entry("functions", "fn", "Define prompts as functions, and call them."),
    "logs": Entry("daemon", "logs", "Show the log of a daemon that sessionctl started."),
    "models": Entry("models", "models", "List the models of this machine."),
    "pin": Entry("workspace", "pin", "Put files into the prefix, whatever the order and the budget say."),
    "ps": Entry("sessions", "ps", "List the sessions."),
    "snapshot": Entry("snapshot", "snapshot", "Write a session to a file, or read one from a file."),
    "status": Entry(
        "daemon", "status", "Say whether the daemon runs, with what, what memory it takes, and what it did."
    ),
    "stop": Entry("daemon", "stop", "End the daemon."),
    "support": Entry(
        "support",
        "support",
        "Write a bundle for whoever helps, without source text, prompts, paths or secrets.",
    ),
    "tokenize": Entry("models", "tokenize", "Show the tokens of a text."),
    "unpin": Entry("workspace", "unpin", "Take pins back."),
    "watch": Entry("watch", "watch", "Show what happens to a session, from now until it is closed."),
    "workspace": Entry(
        "workspace",
        "workspace",
        "Show what the prefix of a folder holds, in its order, and what an edit would cost.",
    ),
}
