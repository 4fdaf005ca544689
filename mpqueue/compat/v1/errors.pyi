# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.program.error_codes import ABORTED as ABORTED
from mpqueue.compat.program.error_codes import ALREADY_EXISTS as ALREADY_EXISTS
from mpqueue.compat.program.error_codes import CANCELLED as CANCELLED
from mpqueue.compat.program.error_codes import DATA_LOSS as DATA_LOSS
from mpqueue.compat.program.error_codes import DEADLINE_EXCEEDED as DEADLINE_EXCEEDED
from mpqueue.compat.program.error_codes import FAILED_PRECONDITION as FAILED_PRECONDITION
from mpqueue.compat.program.error_codes import INTERNAL as INTERNAL
from mpqueue.compat.program.error_codes import INVALID_ARGUMENT as INVALID_ARGUMENT
from mpqueue.compat.program.error_codes import NOT_FOUND as NOT_FOUND
from mpqueue.compat.program.error_codes import OK as OK
from mpqueue.compat.program.error_codes import OUT_OF_RANGE as OUT_OF_RANGE
from mpqueue.compat.program.error_codes import PERMISSION_DENIED as PERMISSION_DENIED
from mpqueue.compat.program.error_codes import RESOURCE_EXHAUSTED as RESOURCE_EXHAUSTED
from mpqueue.compat.program.error_codes import UNAUTHENTICATED as UNAUTHENTICATED
from mpqueue.compat.program.error_codes import UNAVAILABLE as UNAVAILABLE
from mpqueue.compat.program.error_codes import UNIMPLEMENTED as UNIMPLEMENTED
from mpqueue.compat.program.error_codes import UNKNOWN as UNKNOWN
from mpqueue.errors import AbortedError as AbortedError
from mpqueue.errors import AlreadyExistsError as AlreadyExistsError
from mpqueue.errors import CancelledError as CancelledError
from mpqueue.errors import DataLossError as DataLossError
from mpqueue.errors import DeadlineExceededError as DeadlineExceededError
from mpqueue.errors import FailedPreconditionError as FailedPreconditionError
from mpqueue.errors import InternalError as InternalError
from mpqueue.errors import InvalidArgumentError as InvalidArgumentError
from mpqueue.errors import NotFoundError as NotFoundError
from mpqueue.errors import OpError as OpError
from mpqueue.errors import OutOfRangeError as OutOfRangeError
from mpqueue.errors import PermissionDeniedError as PermissionDeniedError
from mpqueue.errors import ResourceExhaustedError as ResourceExhaustedError
from mpqueue.errors import UnauthenticatedError as UnauthenticatedError
from mpqueue.errors import UnavailableError as UnavailableError
from mpqueue.errors import UnimplementedError as UnimplementedError
from mpqueue.errors import UnknownError as UnknownError

__all__ = [
    "ABORTED",
    "ALREADY_EXISTS",
    "AbortedError",
    "AlreadyExistsError",
    "CANCELLED",
    "CancelledError",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "DataLossError",
    "DeadlineExceededError",
    "FAILED_PRECONDITION",
    "FailedPreconditionError",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "InternalError",
    "InvalidArgumentError",
    "NOT_FOUND",
    "NotFoundError",
    "OK",
    "OUT_OF_RANGE",
    "OpError",
    "OutOfRangeError",
    "PERMISSION_DENIED",
    "PermissionDeniedError",
    "RESOURCE_EXHAUSTED",
    "ResourceExhaustedError",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "UNKNOWN",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
]
