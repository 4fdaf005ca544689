"""The properties of each backend.

Code that treats backends differently reads one of these properties and never compares a name. So a new backend is a row
of `_KINDS`, and a class with the protocol of `mpqueue.engine.backend`.
"""

from typing import Final, Literal, NamedTuple

BackendName = Literal["process", "thread", "ray"]

LOCAL_MAKER: Final = "mpqueue.workers.backends"


class BackendKind(NamedTuple):
    """A backend.

    Attributes:
        in_processes: Its workers are processes. Each has a copy of the source, pickled or inherited by a fork, and
            batches are in shared memory, which is bounded. Otherwise workers run in the caller's process and use its
            own source, and a start method has no effect.
        is_local: All workers run on this machine.
        maker: The module with the `make_backend` that creates it. It is imported on first use.
    """

    in_processes: bool
    is_local: bool
    maker: str


_KINDS: dict[str, BackendKind] = {
    "process": BackendKind(in_processes=True, is_local=True, maker=LOCAL_MAKER),
    "thread": BackendKind(in_processes=False, is_local=True, maker=LOCAL_MAKER),
    "ray": BackendKind(in_processes=True, is_local=False, maker="mpqueue.cluster.backend"),
}
IN_PROCESSES: Final = tuple(name for name, kind in _KINDS.items() if kind.in_processes)


def kind_of(name: str) -> BackendKind:
    """Return the backend of a name.

    Raises:
        ValueError: The backend does not exist.
    """
    if name not in _KINDS:
        raise ValueError(f'backend must be "process", "thread" or "ray", got {name!r}')
    return _KINDS[name]
