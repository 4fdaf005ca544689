"""The trainer's side of the source as bytes: sent once, compared at every start, sent in part when part of it changed.

A `SourceImage` is a cloudpickle of the source with its large arrays out-of-band. Two images of one source differ
exactly where the source has changed, also in place inside a big array; `Patch` carries the new pickle and those arrays
that the receiver does not have. Whether it has one is found by comparing it with what was sent, see
`mpqueue.workers.kept_source`; for receivers on other machines, by its digest.
"""

import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from mpqueue.memory.layout import align
from mpqueue.memory.serialize import ByValue, collector, itself
from mpqueue.system.contents import is_a
from mpqueue.system.interrupts import is_of_handler
from mpqueue.worker.source_receive import KERAS_NAME, buffers_start, py_dataset
from mpqueue.workers import shared_tensors
from mpqueue.workers.mapped_files import MapFinder, by_value, is_arrow_buffer

_LARGE_BYTES = 1 << 16  # smaller buffers stay inside the pickle
_PARALLEL_BYTES = 1 << 26


class UnpicklableSource(TypeError):
    """The source cannot be sent to another process; the text names the attribute that is in the way."""


class SourceImage(NamedTuple):
    """A source as bytes.

    Attributes:
        data: The pickle.
        buffers: Its large buffers; they are the source's own memory, not copies.
        digests: One per buffer, if it is for other machines.
        constant: Numbers of buffers that the user has promised not to change since the image before.
    """

    data: bytes
    buffers: list[memoryview]
    digests: list[bytes]
    constant: frozenset[int] = frozenset()

    @property
    def nbytes(self) -> int:
        """Bytes of the pickle and of all buffers."""
        return len(self.data) + sum(buffer.nbytes for buffer in self.buffers)

    @property
    def fingerprint(self) -> tuple[bytes, ...]:
        """Equal for two images of an unchanged source, where they are for other machines."""
        import hashlib

        return (hashlib.sha256(self.data).digest(), *self.digests)


def take_image(source: Any, *, is_local: bool = True, without: Sequence[Any] = ()) -> SourceImage:
    """Pickle the source.

    Args:
        source: The source.
        is_local: Its receivers are on this machine: memory maps travel as descriptions, and digests are not needed.
        without: Parts of the source that are left out, each found by its identity. Such an image can be compared with
            another one, and not be loaded.

    Raises:
        UnpicklableSource: It cannot be pickled; the text names the attribute that is in the way.
    """
    buffers: list[memoryview] = []
    keep_inside = collector(buffers, _LARGE_BYTES)
    try:
        data = _dumps(source, keep_inside, is_local=is_local, without=without)
    except Exception as error:
        if is_of_handler(error):  # a time limit, say, that has nothing to do with the source
            raise
        path, why = find_culprit(source)
        raise UnpicklableSource(
            f"the source cannot be sent to worker processes: {path} cannot be pickled ({why or error}). "
            "Make it in the workers instead (in `worker_init` or on first use), or leave it out with __getstate__"
        ) from error
    return SourceImage(data, buffers, [] if is_local else _digests(buffers))


def _dumps(
    value: Any, keep_inside: Callable[[pickle.PickleBuffer], bool], *, is_local: bool, without: Sequence[Any] = ()
) -> bytes:
    with io.BytesIO() as file:
        # Only where parts are left out: `persistent_id` is called for each object, which slows down all others.
        kind = _PartPickler if without else _SourcePickler
        pickler = kind(file, protocol=5, buffer_callback=keep_inside)
        if without:
            pickler.numbers = {id(part): number for number, part in enumerate(without)}
        pickler.maps = MapFinder() if is_local else None
        pickler.dump(value)
        return file.getvalue()


class _SourcePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, with memory maps (also those of pyarrow's tables) and shared tensors as descriptions.

    And modules that another interpreter would not find by `sys.path` travel by value.
    """

    maps: MapFinder | None

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
        if type(obj) is ByValue:  # all is by value here; and its large arrays are to stay outside
            return itself, (obj.value,)
        if is_a(obj, type) and (obj.__module__, obj.__qualname__) == KERAS_NAME:
            return py_dataset, ()
        if type(obj).__module__ == "multiprocessing.connection" and hasattr(obj, "fileno"):
            # The number of its descriptor would travel, which is another file's there, or closes one.
            raise TypeError(f"cannot pickle '{type(obj).__name__}' object")
        if is_a(obj, type) or callable(obj):
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            if module is not None and not _is_findable(module):
                cloudpickle.register_pickle_by_value(module)
        return super().reducer_override(obj)


class _PartPickler(_SourcePickler):
    """The same, but some objects are left out: their numbers stand for them."""

    numbers: dict[int, int]  # by id

    def persistent_id(self, obj: Any) -> int | None:
        return self.numbers.get(id(obj))


_findable: dict[str, bool] = {}


def _is_findable(module: Any) -> bool:
    """Return True if a fresh interpreter with our `sys.path` could import it."""
    name = module.__name__
    if name not in _findable:
        _findable[name] = name == "__main__" or name in sys.builtin_module_names or _finds(name)
    return _findable[name]


def _finds(name: str) -> bool:
    parent = name.rpartition(".")[0]
    if parent:
        return parent in sys.modules and _is_findable(sys.modules[parent])
    # Not importlib.util.find_spec, which answers from sys.modules: the question is what a fresh interpreter would find.
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    try:
        return any(finder.find_spec(name, None) is not None for finder in finders)
    except (ImportError, ValueError):
        return False


class Patch(NamedTuple):
    """The parts of an image that a receiver of an older one lacks.

    Attributes:
        data: The new pickle.
        new: The buffers that it does not have, by their number.
        old: For the others, by their number, the number that the same buffer had in the older image.
    """

    data: bytes
    new: dict[int, memoryview]
    old: dict[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes to be sent."""
        return len(self.data) + sum(buffer.nbytes for buffer in self.new.values())


def make_patch(image: SourceImage, there: Mapping[int, int]) -> Patch:
    """Return the parts of an image to send to a receiver that has some of its buffers, under these numbers there."""
    new = {number: buffer for number, buffer in enumerate(image.buffers) if number not in there}
    return Patch(image.data, new, dict(there))


def find_digests(image: SourceImage, digests: list[bytes]) -> dict[int, int]:
    """Return which buffers of an image have one of these digests, by their number that of the digest."""
    known = {digest: number for number, digest in enumerate(digests)}
    return {number: known[digest] for number, digest in enumerate(image.digests) if digest in known}


def find_culprit(source: Any) -> tuple[str, str]:
    """The attribute path of a value that cannot be pickled although all that it holds can, and why it cannot."""
    path, value, why = "it", source, ""
    seen: set[int] = set()
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
    """Return what of a function cannot be pickled, and why not; both are empty if all can."""
    why = _why_not(function)
    if why is None:
        return "", ""
    path, found = find_culprit(function)
    return path.removeprefix(" (").removesuffix(")") if path != "the source itself" else "its function", found or why


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if is_a(value, dict):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif is_a(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{name}", child) for name, child in zip(value._fields, value, strict=True))
    elif is_a(value, (list, tuple, set, frozenset)):
        yield from ((f"[{number}]", child) for number, child in enumerate(value))
    elif is_a(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f" (its variable {name})", cell.cell_contents) for name, cell in cells)
        known = value.__globals__
        yield from ((f" (its global {name})", known[name]) for name in _names(value.__code__) if name in known)
        yield from ((f".{name}", child) for name, child in vars(value).items())
    elif hasattr(value, "__dict__") and not is_a(value, type):
        yield from ((f".{name}", child) for name, child in vars(value).items())


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function's code looks up, and that of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _why_not(value: Any) -> str | None:
    try:
        # Not one byte of a big array is copied: it is asked of each attribute of a source of any size.
        _dumps(value, collector([], _LARGE_BYTES), is_local=True)
    except Exception as error:
        if is_of_handler(error):
            raise
        return f"{type(error).__name__}: {error}"
    return None


def _digests(buffers: list[memoryview]) -> list[bytes]:
    if sum(buffer.nbytes for buffer in buffers) < _PARALLEL_BYTES or len(buffers) < 2:
        return [_digest(buffer) for buffer in buffers]
    from concurrent.futures import ThreadPoolExecutor  # 3 ms, for big arrays only

    with ThreadPoolExecutor(4, thread_name_prefix="mpqueue-digest") as pool:  # hashlib lets go of the GIL
        return list(pool.map(_digest, buffers))


def _digest(buffer: memoryview) -> bytes:
    import hashlib

    return hashlib.sha256(buffer).digest()


def encode_patch(patch: Patch) -> list[tuple[int, memoryview]]:
    """A patch as pieces to be written at these offsets; the first begins with its own length."""
    end, places = 0, {}
    for number, buffer in patch.new.items():
        places[number] = (end, buffer.nbytes)
        end = align(end + buffer.nbytes)
    meta = pickle.dumps((patch.data, patch.old, places), 5)
    start = buffers_start(len(meta))
    head = memoryview(len(meta).to_bytes(8, "little") + meta)
    return [(0, head), *((start + places[number][0], buffer) for number, buffer in patch.new.items())]
