"""Makes a worker a child process in the sense of `multiprocessing`.

Workers are not started by `multiprocessing`, which takes 10 to 20 ms to import. Code in a worker must not notice that:

======================  ==============================================================================================
`parent_process()`      The trainer. `current_process()` has the name of the worker, and the trainer's ``authkey``.
after-fork hooks        Run in each forked worker. The trainer's finalizers are dropped, and its children forgotten.
finalizers              Only the worker's own run when it exits: they flush queues and end pools.
resource tracker        The trainer's. With its own, a worker would unlink shared memory of the trainer at its exit.
names of shared memory  Owned by the process that creates them, not by a worker that attaches to them.
pickles of the source   Contain the keys of proxies, and locks and shared values of the same start method. Objects that
                        remember the process that made them are noted when they are unpickled: it must not fork then.
imports                 A module that a worker imports must not start workers: the next ones would import it again, and
                        so on without end.
======================  ==============================================================================================

This code does not import `multiprocessing`. If it is not imported yet, its state is set when it is.
"""

import atexit
import itertools
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from mpqueue.system.program_streams import call_unless_lost
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.user_code.imports import Watch

_TRACKER = "multiprocessing.resource_tracker"


class Parent(NamedTuple):
    """The state of `multiprocessing` in a process that starts workers.

    Attributes:
        pid: Its process id.
        name: Its name.
        identity: Its position in the tree of processes.
        config: The settings that its children inherit; empty if it has not imported `multiprocessing`.
        start_method: The start method that its program has chosen; None for the default.
        tracker: The descriptor of its resource tracker, or None.
    """

    pid: int
    name: str
    identity: tuple[int, ...]
    config: dict[str, Any]
    start_method: str | None
    tracker: int | None


def describe_parent() -> Parent:
    """Return the state of this process, for its workers.

    Starts the resource tracker if the program has imported `multiprocessing.shared_memory`: workers may attach to
    memory that this process creates later.
    """
    package = sys.modules.get("multiprocessing")
    context = getattr(package, "context", None)
    if context is None:  # not imported, or another thread is importing it
        return Parent(os.getpid(), "MainProcess", (), {}, None, None)
    current = sys.modules["multiprocessing.process"].current_process()
    # As bytes, because an `AuthenticationString` refuses to be pickled. And workers may start children, even if this
    # process is a daemon.
    config = {name: value for name, value in current._config.items() if name != "daemon"}
    config["authkey"] = bytes(current.authkey)
    method = context._default_context.get_start_method(allow_none=True)
    return Parent(os.getpid(), current.name, current._identity, config, method, _running_tracker())


def _running_tracker() -> int | None:
    module = sys.modules.get(_TRACKER)
    if module is None:
        return None
    if "multiprocessing.shared_memory" in sys.modules:
        # A worker that cannot share it starts its own tracker on demand.
        try:
            module.ensure_running()
        except (OSError, RuntimeError):  # no process, or called by a finalizer inside of a call
            return None
    fd: int | None = module._resource_tracker._fd
    return fd


class _Child:
    """The state of this process as a child; changed by each `enter`."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.tracker: int | None = None
        self.tracker_watch: Watch | None = None
        self.names_watch: Watch | None = None
        self.is_unpickling = False
        self.bound: set[str] = set()  # classes of the source with objects that remember the process that made them
        self.threads_of_source: weakref.WeakSet[Any] = weakref.WeakSet()  # started while it was unpickled


_child = _Child()


def enter(parent: Parent, name: str, index: int, sentinel: int) -> None:
    """Make this process a child of ``parent``.

    Args:
        parent: The process that has requested this one.
        name: Name of this process.
        index: Its index among the children.
        sentinel: A descriptor that is readable when the parent has exited.
    """
    if _child.watch is not None:  # of the fork server: this process must not get its name
        _child.watch.end()
    _child.watch = Watch("multiprocessing", partial(_set_process, parent, name, index, sentinel))
    if _child.names_watch is None:  # otherwise done by the fork server
        _child.names_watch = Watch(_TRACKER, _own_created_names_only)
    if "threading" in sys.modules:  # a fork leaves the id of the parent's thread
        sys.modules["threading"].main_thread()._set_native_id()


def _set_process(parent: Parent, name: str, index: int, sentinel: int, package: ModuleType) -> None:
    module = package.process
    before = module._current_process  # its collection may run finalizers: not before the after-fork hooks
    current = package.Process(name=name)
    current._identity = (*parent.identity, index)
    current._parent_pid, current._parent_name = parent.pid, parent.name
    current._config.update(parent.config)
    current._config.pop("daemon", None)
    current.authkey = bytes(current._config["authkey"])
    if _child.is_unpickling:
        current._inheriting = True
    module._current_process = current
    module._parent_process = module._ParentProcess(parent.name, parent.pid, sentinel)
    module._process_counter = itertools.count(1)
    module._children = set()
    if parent.start_method is not None:
        package.set_start_method(parent.start_method, force=True)
    del before


def run_after_fork_hooks() -> None:
    """Drop the finalizers of the parent, and run the after-fork hooks; called in a forked child, after `enter`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()


def share_tracker(fd: int) -> None:
    """Use the resource tracker with this descriptor, and own the descriptor."""
    before, _child.tracker = _child.tracker, fd
    if _child.tracker_watch is not None:
        _child.tracker_watch.end()
    _child.tracker_watch = Watch(_TRACKER, _set_tracker)
    if before is not None:
        os.close(before)


def shared_tracker() -> list[int]:
    """Return the descriptor of `share_tracker`; an empty list without one."""
    return [] if _child.tracker is None else [_child.tracker]


def _set_tracker(module: ModuleType) -> None:
    tracker = module._resource_tracker
    # If this process has started its own tracker, that one must keep the names that it knows until this process ends.
    if tracker._fd is not None and tracker._pid is None:
        os.close(tracker._fd)
    assert _child.tracker is not None
    # A duplicate: `multiprocessing` closes its descriptor when the tracker has been killed.
    tracker._fd, tracker._pid = os.dup(_child.tracker), None


def _own_created_names_only(module: ModuleType) -> None:
    # `SharedMemory` registers each name, unless its caller passes `track=False` (Python 3.13). A tracker unlinks the
    # registered names at the exit of its processes: the processes of the trainer, or of a different program.
    register, unregister = module.register, module.unregister

    def register_created(name: str, kind: str) -> None:
        if kind != "shared_memory" or sys._getframe(1).f_locals.get("create", True):
            register(name, kind)

    def unregister_any(name: str, kind: str) -> None:
        if kind == "shared_memory":
            register(name, kind)  # the tracker prints an error for a name that it does not know
        unregister(name, kind)

    module.register, module.unregister = register_created, unregister_any  # type: ignore[attr-defined]


@context_manager
def unpickling() -> Iterator[None]:
    """A context for unpickling the source in a process that is going to become a worker, or to fork workers.

    Proxies of a manager do not count as references there. The after-fork hooks of the worker count them.
    """
    _child.is_unpickling = True
    _child.bound.clear()
    _mark(True)
    try:
        yield
    finally:
        if "threading" in sys.modules:
            _child.threads_of_source.update(sys.modules["threading"].enumerate())
        _child.is_unpickling = False
        _mark(False)


def _mark(is_unpickling: bool) -> None:
    module = sys.modules.get("multiprocessing.process")
    if module is not None:
        current = module.current_process()
        if is_unpickling:
            current._inheriting = True
        else:
            vars(current).pop("_inheriting", None)


def refuse_start_in_import() -> None:
    """Raise an error if a module starts workers while this process, which is a worker or forks workers, imports it.

    A thread that was started while the source was unpickled must not start workers, either.

    Raises:
        RuntimeError: The calling code does.
    """
    if _child.watch is None:
        return
    frame = _importing_frame() or (_outside_frame() if _is_thread_of_import() else None)
    if frame is None:
        return
    file, line, name = frame.f_code.co_filename, frame.f_lineno, frame.f_globals["__name__"]
    raise RuntimeError(
        f"worker processes import the module {name!r} for the source, and it starts worker processes when it is "
        f'imported: File "{file}", line {line}. Those would import it again, without end. Move that code of '
        f'{name!r} into a function that the main script calls, or under `if __name__ == "__main__":`, or move '
        "the classes and functions of the source to another module"
    )


def _is_thread_of_import() -> bool:
    threading = sys.modules.get("threading")
    if threading is None or threading.current_thread() is threading.main_thread():
        return False
    return _child.is_unpickling or threading.current_thread() in _child.threads_of_source


def _outside_frame() -> FrameType:
    """Return the innermost frame outside of this package."""
    from mpqueue.system.callers import outside_stacklevel

    return sys._getframe(outside_stacklevel() - 1)  # level 1 is this function


def _importing_frame() -> FrameType | None:
    """Return the innermost frame of a module that is being imported; None without one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code, names = frame.f_code, frame.f_globals
        if code.co_name == "<module>" and getattr(names.get("__spec__"), "_initializing", False):
            return frame
        if code.co_name == "run_and_exit" and names.get("__name__") == "mpqueue.worker.main":
            return None  # the next frames belong to the trainer that has forked this worker
        frame = frame.f_back
    return None


def finalize() -> None:
    """Run the finalizers that this child has registered with `multiprocessing`, as a forked child does at its exit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _call(util._exit_function)


def finalize_interpreter() -> None:
    """Run finalizers and `atexit` functions, as a spawned child does at its exit."""
    finalize()
    _call(atexit._run_exitfuncs)


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:  # of user code, and this process exits in any case
        call_unless_lost(traceback.print_exc)


class _Handed:
    """A descriptor of the trainer inside a pickle: the receiver opens the same file.

    Args:
        fd: The descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._path, self._inode = f"/proc/{os.getpid()}/fd/{fd}", os.fstat(fd).st_ino

    def detach(self) -> int:
        """Return a new descriptor.

        Raises:
            OSError: The trainer has closed the file.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(fd).st_ino != self._inode:
            os.close(fd)
            raise OSError(f"{self._path} is a different file now: the trainer has released shared memory of the source")
        return fd


class _Launch:
    """The object that `multiprocessing` uses to pass descriptors to a new child."""

    def duplicate_for_child(self, fd: int) -> int:
        """Return the descriptor itself: the receiver opens it by its path."""
        return fd

    DupFd = _Handed  # the name in the protocol of `multiprocessing`


# Classes that only `multiprocessing` can pickle, with its functions; filled by `pickling`.
reducers: dict[type, Callable[[Any], Any]] = {}
_WITH_REDUCERS = ("multiprocessing.heap", "multiprocessing.sharedctypes")


@context_manager
def pickling() -> Iterator[None]:
    """A context for pickling a source for workers on this machine.

    `multiprocessing` allows locks, shared values and the keys of proxies in a pickle only while it starts a process.
    """
    context = sys.modules.get("multiprocessing.context")
    if context is None or not hasattr(context, "set_spawning_popen"):
        yield
        return
    known = sys.modules["multiprocessing.reduction"].ForkingPickler._extra_reducers
    for kind, reduce in list(known.items()):
        if getattr(reduce, "__module__", "") in _WITH_REDUCERS:
            reducers[kind] = partial(_reduce, reduce)
    before = context.get_spawning_popen()
    try:
        context.set_spawning_popen(_Launch())
        yield
    finally:
        context.set_spawning_popen(before)


def refuse_unnamed(obj: Any) -> None:
    """Refuse a lock of `multiprocessing` without a name, as locks of the start method "fork" are.

    Raises:
        TypeError: The object is such a lock.
    """
    module = sys.modules.get("multiprocessing.synchronize")
    # Python 3.11.0 to 3.11.4 would pickle it, and the receiver would use an address of this process.
    if module is not None and issubclass(type(obj), module.SemLock) and obj._semlock.name is None:
        raise TypeError(f"cannot pickle '{type(obj).__name__}' object: only forked processes can share it")


def remembers_process(value: Any) -> bool:
    """Return whether an object has stored the id of this process to detect a fork, as clients of databases do."""
    try:
        attributes = vars(value)
        # Other attributes of these names are compared by code of the user.
        return any(type(pid := attributes.get(name)) is int and pid == os.getpid() for name in ("pid", "_pid"))
    except Exception:  # no attributes, or from a lazy object
        return False


def reduced_as_bound(obj: Any) -> Any:
    """Return the reduction of an object that remembers its process, and is made again when it is unpickled.

    Returns: The reduction; None for other objects.
    """
    kind: Any = type(obj)
    is_copied = kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__  # with the id
    if is_copied or not remembers_process(obj):
        return None
    reduced = obj.__reduce_ex__(5)
    return (bound, (kind.__qualname__, *reduced[:2]), *reduced[2:]) if type(reduced) is tuple else None


def bound(name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the object that ``make`` returns, and note the name of its class; called by pickles."""
    _child.bound.add(name)
    return make(*arguments)


def bound_classes() -> list[str]:
    """Return the names of classes of the source with objects that remember the process that unpickled them."""
    return sorted(_child.bound)


def _reduce(reduce: Callable[[Any], Any], value: Any) -> Any:
    # The class is registered as soon as one of its values is shared. Others are pickled by value.
    is_plain = reduce.__name__ == "reduce_ctype" and not hasattr(value, "_wrapper")
    return value.__reduce_ex__(5) if is_plain else reduce(value)
