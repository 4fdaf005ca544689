"""The trainer's side of sending the source: once in full, compared at every start, and after a change only in part.

A `SourceImage` is a cloudpickle of the source with its large arrays out-of-band. Two images of one source differ
exactly where the source has changed, including changes in@span inside a large array. A `Patch` contains the new pickle
and the arrays that the receiver lacks. Arrays are compared with the sent ones, see
`mpqueue.backends.sending.kept_source`, or by digest for receivers on other machines.
"""

import contextlib
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from mpqueue.backends.sending import shared_tensors
from mpqueue.backends.sending.mapped_files import MapFinder, by_value, is_arrow_buffer
from mpqueue.memory.layout import align
from mpqueue.memory.main_module import code_for_others, is_findable, script_pickler
from mpqueue.memory.serialize import ByValue, collector, itself
from mpqueue.system.processes import child_process
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import text_of
from mpqueue.system.user_code.object_walk import is_a
from mpqueue.worker.source_receive import KERAS_NAME, buffers_start, py_dataset

_LARGE_BYTES = 1 << 16  # smaller buffers remain inside the pickle
_PARALLEL_BYTES = 1 << 26
_OF_SOURCE = "Create it in the workers instead (in `worker_init` or on first use), or exclude it with __getstate__"
_OF_FUNCTION = "Pass a function that creates its objects when it is called"


class UnpicklableSource(TypeError):
    """The source cannot be sent to another process; the message names the attribute that cannot be pickled."""


class SourceImage(NamedTuple):
    """A source as bytes.

    Attributes:
        data: The pickle.
        buffers: Its large buffers; they are the source's own memory, not copies.
        digests: One per buffer, if the image is for other machines.
        constant: Indices of buffers that the user has declared constant since the last image.
    """

    data: bytes
    buffers: list[memoryview]
    digests: list[bytes]
    constant: frozenset[int] = frozenset()

    @property
    def fingerprint(self) -> tuple[bytes, ...]:
        """Equal for two images of an unchanged source; only for images with digests."""
        import hashlib

        return (hashlib.sha256(self.data).digest(), *self.digests)

    def patch(self, kept: Mapping[int, int]) -> "Patch":
        """Return the patch for a receiver; ``kept`` maps indices of buffers to the receiver's indices."""
        new = {index: buffer for index, buffer in enumerate(self.buffers) if index not in kept}
        return Patch(self.data, new, dict(kept))


def take_image(source: Any, *, is_local: bool = True, without: Sequence[Any] = ()) -> SourceImage:
    """Pickle the source.

    Args:
        source: The source.
        is_local: Its receivers are on this machine: memory maps are sent as descriptions, and digests are not needed.
        without: Parts of the source to leave out, found by identity. Such an image can be compared with another image,
            but not loaded.

    Raises:
        UnpicklableSource: It cannot be pickled; the message names the attribute.
    """
    buffers: list[memoryview] = []
    keep_inside = collector(buffers, _LARGE_BYTES)
    try:
        data = _dumps(source, keep_inside, is_local=is_local, without=without)
    except Exception as error:
        if is_interrupt(error):  # a time limit of the user
            raise
        path, why = find_culprit(source)
        remedy = _OF_FUNCTION if path.startswith(("worker_init", "loop_factory")) else _OF_SOURCE
        reason = why or text_of(error)
        raise UnpicklableSource(
            f"the source cannot be sent to worker processes: {path} cannot be pickled ({reason}). {remedy}"
        ) from error
    # On this machine buffers are compared byte by byte, which is faster than a digest.
    return SourceImage(data, buffers, [] if is_local else _digests(buffers))


def _dumps(
    value: Any, keep_inside: Callable[[pickle.PickleBuffer], bool], *, is_local: bool, without: Sequence[Any] = ()
) -> bytes:
    with io.BytesIO() as file:
        # Only if parts are left out: `persistent_id` is called for every object, which is slow.
        kind = _PartPickler if without else _SourcePickler
        pickler = kind(file, keep_inside, is_local=is_local)
        if without:
            pickler.indices = {id(part): index for index, part in enumerate(without)}
        with child_process.pickling() if is_local else contextlib.nullcontext():
            pickler.dump(value)
        return file.getvalue()


class _SourcePickler(script_pickler()):  # type: ignore[misc]  # cloudpickle has no types
    """A cloudpickler that describes memory maps (including pyarrow tables) and shared tensors.

    Modules that another interpreter cannot find on `sys.path` are pickled by value.
    """

    def __init__(self, file: io.BytesIO, keep_inside: Callable[[pickle.PickleBuffer], bool], *, is_local: bool) -> None:
        # New for each image: the addresses of maps change when the source maps another file.
        self.maps = MapFinder() if is_local else None
        codes = {} if is_local else {CodeType: code_for_others}
        # Before the call below, which reads it.
        self.dispatch_table = ChainMap(codes, child_process.reducers, *script_pickler().dispatch_table.maps)
        super().__init__(file, protocol=5, buffer_callback=keep_inside)

    def reducer_override(self, obj: Any) -> Any:
        if is_a(obj, np.ndarray):
            reduced = by_value(obj) if self.maps is None else self.maps.reduced(obj)
            return NotImplemented if reduced is None else reduced
        shared = None if self.maps is None else shared_tensors.reduced(obj)
        if shared is not None:
            return shared
        if self.maps is not None and is_arrow_buffer(obj):
            reduced = self.maps.reduced_buffer(obj)
            return NotImplemented if reduced is None else reduced
        if type(obj) is ByValue:  # here everything is by value, and its large arrays must remain out-of-band
            return itself, (obj.value,)
        if is_a(obj, type) and (obj.__module__, obj.__qualname__) == KERAS_NAME:
            return py_dataset, ()
        if type(obj).__module__ == "multiprocessing.connection" and hasattr(obj, "fileno"):
            # The descriptor's number would be sent. In the receiver it belongs to another file, or to none.
            raise TypeError(f"cannot pickle '{type(obj).__name__}' object")
        child_process.refuse_unnamed(obj)
        bound = child_process.reduced_as_bound(obj)
        if bound is not None:
            return bound
        if is_a(obj, type) or callable(obj):
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            if module is not None and not is_findable(module):
                cloudpickle.register_pickle_by_value(module)
        return super().reducer_override(obj)


class _PartPickler(_SourcePickler):
    """The same, but some objects are replaced by their indices."""

    indices: dict[int, int]  # by id

    def persistent_id(self, obj: Any) -> int | None:
        return self.indices.get(id(obj))


class Patch(NamedTuple):
    """The parts of an image that a receiver of an older one lacks.

    Attributes:
        data: The new pickle.
        new: The buffers that it lacks, by index.
        old: Indices of the other buffers, mapped to their indices in the older image.
    """

    data: bytes
    new: dict[int, memoryview]
    old: dict[int, int]

    @property
    def nbytes(self) -> int:
        """Number of bytes to send."""
        return len(self.data) + sum(buffer.nbytes for buffer in self.new.values())


def find_digests(image: SourceImage, digests: list[bytes]) -> dict[int, int]:
    """Return the buffers of an image that have one of these digests, as indices mapped to indices of digests."""
    known = {digest: index for index, digest in enumerate(digests)}
    return {index: known[digest] for index, digest in enumerate(image.digests) if digest in known}


def find_culprit(source: Any) -> tuple[str, str]:
    """Return the attribute path of the innermost value that cannot be pickled, and the reason."""
    path, value, why = "it", source, ""
    seen: set[int] = set()
    # An object may contain itself.
    while id(value) not in seen:
        seen.add(id(value))
        why = _why_not(value) or why
        for step, child in _children(value):
            trouble = _why_not(child)
            if trouble is not None:
                path, value, why = path + step, child, trouble
                break
    return path.removeprefix("it").removeprefix(".") or "the source itself", why


def why_not_sent(function: Any) -> tuple[str, str]:
    """Return the part of a function that cannot be pickled, and the reason; both are empty if there is no such part."""
    why = _why_not(function)
    if why is None:
        return "", ""
    path, reason = find_culprit(function)
    return path.removeprefix(" (").removesuffix(")") if path != "the source itself" else "its function", reason or why


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        yield from _children_by_kind(value)
    except Exception:  # from a lazy object, or an object that only claims to be a container, as mocks do
        return


def _children_by_kind(value: Any) -> Iterator[tuple[str, Any]]:
    if is_a(value, dict):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif is_a(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{name}", child) for name, child in zip(value._fields, value, strict=True))
    elif is_a(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", child) for index, child in enumerate(value))
    elif is_a(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f" (its variable {name})", cell.cell_contents) for name, cell in cells)
        known = value.__globals__
        yield from ((f" (its global {name})", known[name]) for name in _names(value.__code__) if name in known)
        yield from ((f".{name}", child) for name, child in vars(value).items())
    elif hasattr(value, "__dict__") and not is_a(value, type):
        yield from ((f".{name}", child) for name, child in vars(value).items())


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function's code looks up, including nested functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _why_not(value: Any) -> str | None:
    try:
        # Without copying large arrays: this runs for every attribute of a source of any size.
        _dumps(value, collector([], _LARGE_BYTES), is_local=True)
    except Exception as error:
        return f"{type(error).__name__}: {text_of(error)}"
    return None


def _digests(buffers: list[memoryview]) -> list[bytes]:
    if sum(buffer.nbytes for buffer in buffers) < _PARALLEL_BYTES or len(buffers) < 2:
        return [_digest(buffer) for buffer in buffers]
    from concurrent.futures import ThreadPoolExecutor  # takes 3 ms, for large arrays only

    with ThreadPoolExecutor(4, thread_name_prefix="mpqueue-digest") as pool:  # hashlib releases the GIL
        return list(pool.map(_digest, buffers))


def _digest(buffer: memoryview) -> bytes:
    import hashlib

    return hashlib.sha256(buffer).digest()


def encode_patch(patch: Patch) -> list[tuple[int, memoryview]]:
    """Return a patch as pieces to write at these offsets; the first one begins with its length."""
    end, spans = 0, {}
    for index, buffer in patch.new.items():
        spans[index] = (end, buffer.nbytes)
        end = align(end + buffer.nbytes)
    meta = pickle.dumps((patch.data, patch.old, spans), 5)
    start = buffers_start(len(meta))
    head = memoryview(len(meta).to_bytes(8, "little") + meta)
    return [(0, head), *((start + spans[index][0], buffer) for index, buffer in patch.new.items())]
