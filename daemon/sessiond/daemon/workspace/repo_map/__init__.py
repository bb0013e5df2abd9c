"""A map of the workspace: its files and what they define, without the bodies. `repo_map` is the way in.

It stands early in the prompt, so each change of its text costs the prefill of all behind it. It therefore holds
nothing that an edit inside a body changes: no line numbers, no values, no sizes.
"""

from __future__ import annotations

from sessiond.daemon.workspace.repo_map.build import TokenCounter, repo_map

__all__ = ["TokenCounter", "repo_map"]
