"""The names of ``tf.errors``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.errors": (
            "AbortedError AlreadyExistsError CancelledError DataLossError DeadlineExceededError "
            "FailedPreconditionError InternalError InvalidArgumentError NotFoundError OpError OutOfRangeError "
            "PermissionDeniedError ResourceExhaustedError UnauthenticatedError UnavailableError "
            "UnimplementedError UnknownError"
        ),
        "mpqueue.compat.program.error_codes": (
            "ABORTED ALREADY_EXISTS CANCELLED DATA_LOSS DEADLINE_EXCEEDED FAILED_PRECONDITION INTERNAL "
            "INVALID_ARGUMENT NOT_FOUND OK OUT_OF_RANGE PERMISSION_DENIED RESOURCE_EXHAUSTED UNAUTHENTICATED "
            "UNAVAILABLE UNIMPLEMENTED UNKNOWN"
        ),
    },
    prefix="tf.errors",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
