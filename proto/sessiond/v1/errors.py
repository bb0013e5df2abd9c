"""The errors of the contract, as exceptions. The daemon raises them, and the client raises the same.

    SessiondError
    ├── ContextOverflow      it would not fit
    ├── ManifestMismatch     the client's `expect` differs from what the session is
    ├── UnsupportedFeature   a deliberate gap
    ├── SessionNotFound      no such session
    ├── FunctionNotFound     no such function
    ├── SessionClosed        it was closed
    ├── SessionBusy          a turn is running on it
    ├── SessionFatal         the backend died in a turn that cannot be sent again
    ├── SessionUnavailable   no backend, or it is starting
    ├── InvalidInput         malformed, each field named
    └── PermissionDenied     outside the workspace, or a bad token

An exception carries its figures as attributes; `sessiond.v1.status` maps them to and from the wire. This
module imports nothing, so that every part may speak of errors without knowing gRPC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class SessiondError(Exception):
    """What every error of sessiond is. `reason` is the stable word that programs test for."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def metadata(self) -> dict[str, str]:
        """Every figure of the message, by name."""
        return {}


class ContextOverflow(SessiondError):
    """It would not fit into the window. Found before anything changes: the session is as it was. `arguments` are the indexes
    of those of a MapFunction that would not, of which the first one's figures are told.
    """

    reason = "CONTEXT_OVERFLOW"

    def __init__(
        self,
        stage: str,
        resident_tokens: int,
        additional_tokens: int,
        num_ctx: int,
        arguments: Sequence[int] = (),
    ) -> None:
        which = f" with {_arguments(arguments)}" if arguments else ""
        super().__init__(
            f"the {stage} would not fit{which}: {resident_tokens} tokens stand, {additional_tokens} more were asked "
            f"for, and the window has {num_ctx}"
        )
        self.stage = stage
        self.resident_tokens = resident_tokens
        self.additional_tokens = additional_tokens
        self.num_ctx = num_ctx
        self.arguments = tuple(arguments)

    def metadata(self) -> dict[str, str]:
        told = {
            "stage": self.stage,
            "resident_tokens": str(self.resident_tokens),
            "additional_tokens": str(self.additional_tokens),
            "num_ctx": str(self.num_ctx),
        }
        return told | ({"arguments": ",".join(map(str, self.arguments))} if self.arguments else {})


@dataclass(frozen=True, slots=True)
class FieldMismatch:
    """One field in which a manifest differs from what the client expects."""

    name: str
    expected: str
    actual: str


class ManifestMismatch(SessiondError):
    """The client's `expect` differs from what the session is."""

    reason = "MANIFEST_MISMATCH"

    def __init__(self, fields: Sequence[FieldMismatch]) -> None:
        names = ", ".join(field.name for field in fields)
        super().__init__(f"the context is not what the client expects; these fields differ: {names}")
        self.fields = tuple(fields)

    def metadata(self) -> dict[str, str]:
        return {"fields": ",".join(field.name for field in self.fields)}


class UnsupportedFeature(SessiondError):
    """A deliberate gap: nothing is silently ignored."""

    reason = "UNSUPPORTED_FEATURE"

    def __init__(self, feature: str, backend: str = "") -> None:
        super().__init__(f"{feature} is not supported" + (f" by the backend {backend}" if backend else ""))
        self.feature = feature
        self.backend = backend

    def metadata(self) -> dict[str, str]:
        return {"feature": self.feature, "backend": self.backend}


class SessionNotFound(SessiondError):
    """No session has this name."""

    reason = "SESSION_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"no such session: {name}")
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"name": self.name}


class FunctionNotFound(SessiondError):
    """No function has this name."""

    reason = "FUNCTION_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"no such function: {name}")
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"name": self.name}


class SessionClosed(SessiondError):
    """The session was closed."""

    reason = "SESSION_CLOSED"

    def __init__(self, name: str) -> None:
        super().__init__(f"the session was closed: {name}")
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"name": self.name}


class SessionBusy(SessiondError):
    """A turn is running on the session."""

    reason = "SESSION_BUSY"

    def __init__(self, name: str) -> None:
        super().__init__(f"a turn is running on the session: {name}")
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"name": self.name}


class SessionFatal(SessiondError):
    """The backend died in mid-answer, or again and again in one turn: the session stands at its prefix. `cause` has the signal
    or exit code and last words.
    """

    reason = "SESSION_FATAL"

    def __init__(self, cause: str) -> None:
        super().__init__(f"the backend died under the session: {cause}")
        self.cause = cause

    def metadata(self) -> dict[str, str]:
        return {"cause": self.cause}


class SessionUnavailable(SessiondError):
    """No backend, or it is starting. Worth another try."""

    reason = "SESSION_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One malformed field: its path within the request, and what is wrong with it."""

    field: str
    description: str


class InvalidInput(SessiondError):
    """Malformed input, each field named."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        told = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(f"invalid input: {told}")
        self.violations = tuple(violations)

    def metadata(self) -> dict[str, str]:
        return {"fields": ",".join(violation.field for violation in self.violations)}


class PermissionDenied(SessiondError):
    """Outside the workspace, or a bad token."""

    reason = "PERMISSION_DENIED"


def _arguments(indexes: Sequence[int]) -> str:
    return f"argument {indexes[0]}" if len(indexes) == 1 else f"arguments {', '.join(map(str, indexes))}"


def invalid(field: str, description: str) -> InvalidInput:
    """The common case of one malformed field."""
    return InvalidInput([FieldViolation(field, description)])
