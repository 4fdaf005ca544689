"""The numbers of the error classes."""

from typing import Final

from mpqueue import errors

OK: Final = 0
CANCELLED: Final = errors.CancelledError.code
UNKNOWN: Final = errors.UnknownError.code
INVALID_ARGUMENT: Final = errors.InvalidArgumentError.code
DEADLINE_EXCEEDED: Final = errors.DeadlineExceededError.code
NOT_FOUND: Final = errors.NotFoundError.code
ALREADY_EXISTS: Final = errors.AlreadyExistsError.code
PERMISSION_DENIED: Final = errors.PermissionDeniedError.code
RESOURCE_EXHAUSTED: Final = errors.ResourceExhaustedError.code
FAILED_PRECONDITION: Final = errors.FailedPreconditionError.code
ABORTED: Final = errors.AbortedError.code
OUT_OF_RANGE: Final = errors.OutOfRangeError.code
UNIMPLEMENTED: Final = errors.UnimplementedError.code
INTERNAL: Final = errors.InternalError.code
UNAVAILABLE: Final = errors.UnavailableError.code
DATA_LOSS: Final = errors.DataLossError.code
UNAUTHENTICATED: Final = errors.UnauthenticatedError.code
