"""What comes of prompts: answers, and how likely given texts are as one."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.client.prompts.prompt import Prompt
from sessiond.v1 import context_pb2, session_service_pb2


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to one prompt."""

    index: int
    """Which of the prompts that were given."""
    prompt: Prompt
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[context_pb2.TokenLogprobs, ...]
    """One for each of the tokens, if `logprobs` asked for them."""
    prefix: context_pb2.PrefixStatus
    """What became of the pieces before the messages, or before the last piece."""
    suffix: context_pb2.SuffixStatus
    """What became of the rest."""
    summary: context_pb2.DecodeSummary

    @property
    def computed_tokens(self) -> int:
        """Tokens of the prompt that were computed for it."""
        return self.prefix.prefilled_tokens + self.suffix.prefilled_tokens

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, with what frames its messages."""
        return self.prefix.prefix_tokens + self.suffix.suffix_tokens

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely a text is after a prompt."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of each token after all before it: the natural logarithm of its probability."""
    logprob: float
    """Their sum: that of the whole text, as these tokens."""

    @property
    def mean(self) -> float:
        """The mean of a token, for comparing texts of different lengths."""
        return self.logprob / len(self.logprobs)

    @classmethod
    def of(cls, text: str, told: session_service_pb2.ScoredContinuation) -> Scored:
        """What the daemon said of a text."""
        return cls(
            text,
            tuple(token.token_id for token in told.tokens),
            tuple(token.logprob for token in told.tokens),
            told.logprob,
        )
