"""Views of shared memory that children of user code inherit by a fork.

A child that user code forks (``Process(target=save, args=(batch,))``) has the parent's views, of the same memory. The
parent does not know when the child deletes them. So memory with views at a fork is not reused until the child exits:

    before the fork    the leases of all memory with views are suspended; a pipe is created
    after it           the child keeps the write end, which its own children inherit, but no program that it executes
    the child exits    end-of-file: `collect` resumes the leases, and those without views in this process end

There is no work per batch. `collect` is called when views or memory run short, and before each fork. A consumer may
have a limited number of leases. Suspended leases count: at the limit it gets private copies.

The workers of this package read no batches of the trainer, see `fork_worker`. Programs that are started without fork
hooks (`subprocess`, ``posix_spawn``) do not inherit memory.
"""

import os
import select
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.system.descriptors import descriptors
from mpqueue.system.signals.deferred import defer_signals, deliver_after_return
from mpqueue.system.signals.locks import RLock
from mpqueue.system.signals.weak_sets import Living


class _Heirs:
    """The forked children that may read the memory of a lease.

    Args:
        of: The value of the lease's attribute, until the last of the children has exited.
    """

    __slots__ = ("children", "of")

    def __init__(self, of: Any) -> None:
        self.of, self.children = of, set[_ForkedChild]()


class Lease(weakref.ref[Any]):
    """A weak reference to the array that all views of some memory refer to.

    Attributes:
        of: The memory, such as its slot. Missing while the lease is suspended: it is not ended then.
        heirs: The children that it is suspended for; otherwise missing.
    """

    __slots__ = ("heirs", "of")
    heirs: _Heirs
    of: Any

    @property
    def is_suspended(self) -> bool:
        """True while a child may read the memory."""
        return hasattr(self, "heirs")

    @property
    def whole(self) -> Any:
        """The memory, also while the lease is suspended."""
        return self.heirs.of if self.is_suspended else self.of

    def suspend(self, child: "_ForkedChild") -> None:
        """Do not end before this child has exited."""
        heirs = getattr(self, "heirs", None)
        if heirs is None:
            heirs = self.heirs = _Heirs(self.of)
            del self.of  # the code that processes ended leases skips this one, without another check
        heirs.children.add(child)

    def resume(self, child: "_ForkedChild") -> bool:
        """Record that this child has exited; return True if it was the last one."""
        heirs = getattr(self, "heirs", None)
        if heirs is None or child not in heirs.children:
            return False
        heirs.children.remove(child)
        if heirs.children:
            return False
        self.of = heirs.of
        del self.heirs
        return True


class Lessor:
    """An owner of memory that is reused when it has no views.

    A subclass adds a `Lease` to ``_live`` for each part that it returns views of. It ends the leases in the deque that
    ``_ended_append`` appends to, except leases without ``of`` or outside ``_live``.

    Args:
        memory: The mapping.
        ended_append: The callback of the leases.
    """

    def __init__(self, memory: Any, ended_append: Callable[[Lease], object]) -> None:
        self._memory, self._ended_append = memory, ended_append
        self._live: dict[int, Lease] = {}
        collect()
        _lessors.add(self)

    def keep_for(self, child: "_ForkedChild") -> Iterator["_Kept"]:
        """Suspend the leases of all memory that has views; yield them."""
        for lease in list(self._live.values()):
            base = lease()
            if base is not None:
                lease.suspend(child)
                yield self, base.base, lease  # not `_memory`: after its close, a consumer has views only

    def resume(self, lease: Lease, child: "_ForkedChild") -> None:
        """Resume a lease, and end it if it has no views in this process."""
        # After an end that was not processed yet, the deque has the lease twice. The second one is ignored.
        if lease.resume(child) and lease() is None:
            self._ended_append(lease)


_Kept = tuple[Lessor, Any, Lease]  # with the memory, which must remain mapped: a server reuses unmapped memory


class _ForkedChild:
    """A forked child.

    Attributes:
        kept: The leases that are suspended for it.
        read_end: A pipe that ends with the child; -1 if no descriptor was left for it.
        write_end: The other end of the pipe, until the process has forked.
    """

    def __init__(self) -> None:
        self.kept: list[_Kept] = []
        try:
            self.read_end, self.write_end = descriptors.all_above_standard(os.pipe())
        except OSError:  # without a pipe, the exit of the child is not noticed: its leases remain suspended
            self.read_end = self.write_end = -1
        else:
            descriptors.own(self.read_end)  # other children must not keep it

    def keep(self) -> None:
        """Suspend the leases of all memory that has views."""
        for lessor in _lessors:
            self.kept += lessor.keep_for(self)

    def drop(self, lessor: Lessor | None = None) -> None:
        """Resume the leases of a lessor, or all."""
        for each, _, lease in self.kept:
            if lessor is None or each is lessor:
                each.resume(lease, self)
        self.kept = [] if lessor is None else [kept for kept in self.kept if kept[0] is not lessor]
        self.close_if_done()

    def close_if_done(self) -> None:
        """Forget the child if no lease is suspended for it."""
        if not self.kept:
            _children.discard(self)
            fd, self.read_end = self.read_end, -1
            if fd >= 0:
                descriptors.close(fd)

    def close_write_end(self) -> None:
        """Close the write end in this process."""
        fd, self.write_end = self.write_end, -1
        if fd >= 0:
            os.close(fd)


_lessors: Living[Lessor] = Living()
_children: set[_ForkedChild] = set()
_forking: dict[int, _ForkedChild] = {}  # by thread
_forks_worker: set[int] = set()  # threads
_lock = RLock()  # a garbage collection may close a ring while its thread has the lock


def release(lessor: Lessor) -> None:
    """Resume the leases of a lessor that does not reuse its memory any longer."""
    _lessors.discard(lessor)
    if _children:
        with defer_signals(), _lock:  # half of a change would leak a descriptor
            for child in _children.copy():
                child.drop(lessor)


def collect() -> None:
    """Resume the leases that were suspended for children that have exited."""
    if not _children:
        return
    with defer_signals(), _lock:  # as in `release`
        ends = {child.read_end: child for child in _children if child.read_end >= 0}
        poll = select.poll()
        for read_end in ends:
            poll.register(read_end, select.POLLIN)
        for read_end, _ in poll.poll(0):
            ends[read_end].drop()


def are_kept() -> bool:
    """Return whether leases are suspended for a child."""
    return bool(_children)


def fork_worker() -> int:
    """Fork like `os.fork`, but suspend no leases: the child is a worker, which reads no batches."""
    thread = threading.get_ident()
    try:
        _forks_worker.add(thread)
        return os.fork()
    finally:
        _forks_worker.discard(thread)


# Exceptions of fork hooks are lost, also in the hooks of other modules. So handlers of signals run after the fork.
def _before_fork() -> None:
    if _lessors and threading.get_ident() not in _forks_worker:
        deliver_after_return(_begin)


def _begin() -> None:
    collect()
    with _lock:
        child = _forking[threading.get_ident()] = _ForkedChild()
        # Before and after the fork: another thread may delete a view, or get one, in between.
        child.keep()


def _after_in_parent() -> None:
    if threading.get_ident() in _forking:
        deliver_after_return(_end)


def _end() -> None:
    child = _forking.pop(threading.get_ident())
    child.close_write_end()
    with _lock:
        _children.add(child)
        child.keep()
        child.close_if_done()


def _after_in_child() -> None:
    global _lock
    _lock = RLock()  # another thread may have held it
    own = _forking.pop(threading.get_ident(), None)
    if own is not None and not own.kept:
        own.close_write_end()
    for child in _forking.values():  # of forks in other threads
        child.close_write_end()
    # The leases are the parent's: this process reuses none of the memory.
    _forking.clear()
    _children.clear()
    _lessors.clear()
    _forks_worker.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
