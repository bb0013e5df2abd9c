"""What a backend says of itself and of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be done with a loaded model. Names as in the contract; what is False answers UnsupportedFeature."""

    session: bool = True
    embed: bool = False
    fork: bool = False
    truncate: bool = False
    snapshot: bool = False
    grammar: bool = False
    logprobs: bool = False
    fim: bool = False
    deterministic: bool = False
    reports_reuse: bool = False


@dataclass(frozen=True, slots=True)
class VocabFacts:
    """The vocabulary and its rules."""

    size: int
    """Number of tokens."""
    bos: int | None
    """The token that opens a text, if the model has one."""
    add_bos: bool
    """Whether the model was trained to see it."""
    end_tokens: frozenset[int]
    """Tokens that end an answer."""
    digest: str
    """SHA-256 over pieces, kinds and rules."""
    chat_template: str
    """The model's own Jinja2 template; empty if it has none."""
    bos_text: str = ""
    eos_text: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A loaded model."""

    backend: str
    backend_version: str
    """Version and build: KV of one build is not reused by another."""
    description: str
    path: str
    """Absolute path of its file; empty if it has none."""
    model_digest: str
    """SHA-256 of the file."""
    size_bytes: int
    parameters: int
    num_ctx_train: int
    vocab: VocabFacts
    capabilities: Capabilities
    notes: tuple[str, ...] = ()
    """What there is to say of how it runs."""
