"""CPU tensors in shared memory (`torch.Tensor.share_memory_`) remain shared with workers that were not forked.

Pickling such a tensor would copy it, and later changes by the trainer would not reach the workers. The `set_epoch` of
Hugging Face datasets relies on them. So its storage is pickled as a description, and mapped again by the receiver:

    trainer    describes torch's descriptor of the memory by its path in /proc and its inode
    receiver   opens that path, checks that the inode is the same, and maps the memory

The memory of other large tensors is copied once and mapped by all receivers, like the memory of large arrays: torch's
own pickle would contain the bytes, in each process.

Torch keeps the descriptor as long as the storage exists, and the source keeps the storage. Everything else is pickled
by value: if torch keeps no descriptor (`torch.from_file`, the sharing strategy "file_system"), if the system has no
/proc, for storages of other devices, and for receivers on other machines.
"""

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

_LARGE_BYTES = 1 << 16  # as for arrays


def reduced(storage: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """Return the reduction of a shared or large storage; None for all other objects, which are pickled normally."""
    torch = sys.modules.get("torch")
    if torch is None or type(storage).__module__ != "torch.storage":
        return None
    is_typed = isinstance(storage, torch.storage.TypedStorage)
    plain = storage._untyped_storage if is_typed else storage
    is_described = isinstance(plain, torch.UntypedStorage) and plain.device.type == "cpu" and plain.nbytes() > 0
    if is_described and plain.nbytes() >= _LARGE_BYTES and not plain.is_shared():
        memory = torch.empty(0, dtype=torch.uint8).set_(plain).numpy()
        return _view_storage, (pickle.PickleBuffer(memory), storage.dtype if is_typed else None)
    if not (is_described and plain.is_shared() and _is_readable()):
        return None
    if torch.multiprocessing.get_sharing_strategy() != "file_descriptor":
        return None  # requesting its descriptor would move it to other memory
    fd, nbytes = plain._share_fd_cpu_()
    if fd < 0:  # `torch.from_file` has closed its file
        return None
    return _open_storage, (
        f"/proc/{os.getpid()}/fd/{fd}",
        os.fstat(fd).st_ino,
        nbytes,
        storage.dtype if is_typed else None,
    )


def _view_storage(memory: Any, dtype: Any) -> Any:
    """Return a storage over the receiver's mapping of a buffer, which is private and writable."""
    import torch

    plain = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    return plain if dtype is None else torch.TypedStorage(wrap_storage=plain, dtype=dtype, _internal=True)


def _is_readable() -> bool:
    """Return whether other processes of this user may open our descriptors; a non-dumpable process denies that."""
    try:
        return os.stat("/proc/self/fd").st_uid == os.geteuid()
    except OSError:  # the system has no /proc
        return False


def _open_storage(path: str, inode: int, nbytes: int, dtype: Any) -> Any:
    """Map the memory of a storage.

    Raises:
        OSError: The trainer has released it.
    """
    import torch

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino != inode:
            raise OSError(f"{path} is a different file now: the trainer has released a shared tensor of the source")
        plain = torch.UntypedStorage._new_shared_fd_cpu(fd, nbytes)
    finally:
        os.close(fd)  # torch has duplicated it
    return plain if dtype is None else torch.TypedStorage(wrap_storage=plain, dtype=dtype, _internal=True)
