"""The properties of each backend.

Code that treats backends differently reads one of these properties and never compares a name. So a new backend is a row
of `_KINDS`, and a class with the protocol of `mpqueue.engine.backend`.
"""

from typing import Final, Literal, NamedTuple

BackendName = Literal["process", "thread", "ray"]

LOCAL_MAKER: Final = "mpqueue.backends.creation"


class BackendKind(NamedTuple):
    """A backend.

    Attributes:
        copies_source: Each worker has a copy of the source, pickled or inherited by a fork. Otherwise all of them use
            the caller's own source.
        has_start_method: Workers are processes, which start methods of `multiprocessing` start.
        has_ring: Batches are in shared memory, which is bounded.
        is_local: All workers run on this machine.
        maker: The module with the `make_backend` that creates it. It is imported on first use.
    """

    copies_source: bool
    has_start_method: bool
    has_ring: bool
    is_local: bool
    maker: str


_KINDS: dict[str, BackendKind] = {
    "process": BackendKind(copies_source=True, has_start_method=True, has_ring=True, is_local=True, maker=LOCAL_MAKER),
    "thread": BackendKind(
        copies_source=False, has_start_method=False, has_ring=False, is_local=True, maker=LOCAL_MAKER
    ),
    "ray": BackendKind(
        copies_source=True, has_start_method=True, has_ring=True, is_local=False, maker="mpqueue.backends.ray.backend"
    ),
}
COPYING: Final = tuple(name for name, kind in _KINDS.items() if kind.copies_source)


def kind_of(name: str) -> BackendKind:
    """Return the backend of a name.

    Raises:
        ValueError: The backend does not exist.
    """
    if name not in _KINDS:
        raise ValueError(f'backend must be "process", "thread" or "ray", got {name!r}')
    return _KINDS[name]
