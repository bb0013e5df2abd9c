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
class FimTokens:
    """The tokens between which a text stands whose middle is to be filled in."""

    prefix: int
    """What is before the cursor follows."""
    suffix: int
    """What is after it follows."""
    middle: int
    """What the model fills in follows."""
    file: int | None = None
    """The path of a file follows, and then its text, if the model knows several files in one context."""


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
    fim: FimTokens | None = None
    """None where the model cannot fill in the middle."""
    opens_with_space: bool = False
    """Whether the tokenizer puts a space before every text: it has to be kept out of a text that goes on another."""


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
