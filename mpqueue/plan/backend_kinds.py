"""The kinds of backends: what sets them apart, for all who have to know.

Whoever treats them differently asks for one of these attributes, and not for a name: another backend is a line of
`_KINDS`, and a class with the protocol of `mpqueue.engine.backend`.
"""

from typing import Final, Literal, NamedTuple

BackendName = Literal["process", "thread", "ray"]

LOCAL_MAKER: Final = "mpqueue.workers.backends"


class BackendKind(NamedTuple):
    """A kind of backend, and all that sets it apart from the others.

    Attributes:
        in_processes: Its workers are processes. Each has a copy of the source, which is pickled or inherited by a fork,
            and batches lie in shared memory, which is bounded. Else they run in the caller's process, on its own
            source, and there is nothing to be started by a start method.
        is_local: They all run on this machine.
        maker: The module whose `make_backend` makes it; it is imported for the first one.
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
    """Return the kind of a backend.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in _KINDS:
        raise ValueError(f'backend must be "process", "thread" or "ray", got {name!r}')
    return _KINDS[name]
