"""CPU tensors in shared memory (`torch.Tensor.share_memory_`) stay shared with workers that were not forked.

To pickle one would copy it, so that what the trainer writes into it would not reach the workers: Hugging Face's
`set_epoch` does that. So its storage travels as a description, and is mapped again by the receiver:

    trainer    names the descriptor under which torch keeps the memory, as a path in /proc, and its inode
    receiver   opens that path, sees that it is the same memory (inode), and maps it

Torch keeps the descriptor as long as the storage lives, which the source keeps alive. Whatever cannot be described
travels by value: torch keeps no descriptor (`torch.from_file`, the sharing strategy "file_system"), the system has no
/proc, the storage is of another device; and so does all that goes to another machine.
"""

import os
import sys
from collections.abc import Callable
from typing import Any


def reduced(storage: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """Return how an object is to be pickled that is a shared storage; None: as it is, or it is none."""
    torch = sys.modules.get("torch")
    if torch is None or type(storage).__module__ != "torch.storage":
        return None
    is_typed = isinstance(storage, torch.storage.TypedStorage)
    plain = storage._untyped_storage if is_typed else storage
    is_described = isinstance(plain, torch.UntypedStorage) and plain.device.type == "cpu" and plain.nbytes() > 0
    if not (is_described and plain.is_shared() and _is_readable()):
        return None
    if torch.multiprocessing.get_sharing_strategy() != "file_descriptor":
        return None  # to ask for its descriptor would move it to other memory
    fd, nbytes = plain._share_fd_cpu_()
    if fd < 0:  # `torch.from_file` has closed its file
        return None
    return _open_storage, (
        f"/proc/{os.getpid()}/fd/{fd}",
        os.fstat(fd).st_ino,
        nbytes,
        storage.dtype if is_typed else None,
    )


def _is_readable() -> bool:
    """Return whether other processes of this user may open our descriptors: one that hides its memory lets nobody."""
    try:
        return os.stat("/proc/self/fd").st_uid == os.geteuid()
    except OSError:  # there is no /proc
        return False


def _open_storage(path: str, inode: int, nbytes: int, dtype: Any) -> Any:
    """Map the memory of a storage.

    Raises:
        OSError: The trainer has let go of it.
    """
    import torch

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino != inode:
            raise OSError(f"{path} is another file now: the trainer has let go of a shared tensor that the source had")
        plain = torch.UntypedStorage._new_shared_fd_cpu(fd, nbytes)
    finally:
        os.close(fd)  # torch has made one of its own
    return plain if dtype is None else torch.TypedStorage(wrap_storage=plain, dtype=dtype, _internal=True)
