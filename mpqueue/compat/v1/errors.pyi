# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
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
from mpqueue.tf1.compat.program.settings import OK as OK

__all__ = [
    "ABORTED", "ALREADY_EXISTS", "AbortedError", "AlreadyExistsError", "CANCELLED", "CancelledError", "DATA_LOSS",
    "DEADLINE_EXCEEDED", "DataLossError", "DeadlineExceededError", "FAILED_PRECONDITION", "FailedPreconditionError",
    "INTERNAL", "INVALID_ARGUMENT", "InternalError", "InvalidArgumentError", "NOT_FOUND", "NotFoundError", "OK",
    "OUT_OF_RANGE", "OpError", "OutOfRangeError", "PERMISSION_DENIED", "PermissionDeniedError", "RESOURCE_EXHAUSTED",
    "ResourceExhaustedError", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN", "UnauthenticatedError",
    "UnavailableError", "UnimplementedError", "UnknownError",
]  # fmt: skip
ABORTED: int
ALREADY_EXISTS: int
CANCELLED: int
DATA_LOSS: int
DEADLINE_EXCEEDED: int
FAILED_PRECONDITION: int
INTERNAL: int
INVALID_ARGUMENT: int
NOT_FOUND: int
OUT_OF_RANGE: int
PERMISSION_DENIED: int
RESOURCE_EXHAUSTED: int
UNAUTHENTICATED: int
UNAVAILABLE: int
UNIMPLEMENTED: int
UNKNOWN: int
