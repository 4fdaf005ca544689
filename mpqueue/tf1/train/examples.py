"""One `Source` of examples, made from the tensors of a batching function.

TensorFlow takes tensors in a list or dict, and evaluates all of them once per example. Here, a single `Source` can
return lists or dicts. Alternatively, a list or dict contains arrays and Sources of one array each. Sources derived by
``map`` from one common source receive the same example of it, so that an image and its label belong together. The same
holds in TensorFlow for two tensors that are computed from one.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.errors import OutOfRangeError
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import constant_source


def as_example_source(tensors: Any) -> Source:
    """Return one source of lists, or of dicts if ``tensors`` is a dict or has names.

    Raises:
        TypeError: ``tensors`` is a single array, a source of single arrays, or not a tensor at all.
        ValueError: ``tensors`` is empty, or the dtypes of a source are unknown.
    """
    if isinstance(tensors, Source):
        if tensors.is_bare:
            raise TypeError(f"{tensors!r} returns single arrays: pass it in a list, as in batch([source], ...)")
        return _with_dtypes(tensors)
    if not isinstance(tensors, list | tuple | dict):
        raise TypeError(f"Expected a Source, or a list or dict of Sources or arrays, got {type(tensors).__name__}")
    if not tensors:
        raise ValueError("Expected at least one Source or array, got none")
    if isinstance(tensors, dict):
        return _joint([*tensors.values()], [*tensors])
    return _joint([*tensors], None)


def _joint(parts: list[Any], names: list[str] | None) -> Source:
    labels = [f"component {label!r}" for label in names or range(len(parts))]
    sources = [_component(part, label) for part, label in zip(parts, labels, strict=True)]
    dtypes = [dtype for source in sources for dtype in source.dtypes or ()]
    shapes = [shape for source in sources for shape in source.shapes or ()]
    return Source(_Joint(sources, names), dtypes, shapes, names)


def _component(part: Any, label: str) -> Source:
    source = part if isinstance(part, Source) else constant_source(part, label)
    if source.names is not None or len(_with_dtypes(source).dtypes or ()) != 1:
        raise ValueError(f"{label} must be one array, {source!r} returns several: pass that source by itself")
    return source


def _with_dtypes(source: Source) -> Source:
    if source.dtypes is None:
        raise ValueError(f"The dtypes of {source!r} are unknown: create it with Source(fn, dtypes, shapes)")
    return source


class _Joint:
    """A callable that calls all sources for one example; a source that several depend on is called once."""

    def __init__(self, sources: list[Source], names: list[str] | None) -> None:
        self._sources, self._names = sources, names

    def __call__(self) -> Any:
        known: dict[int, Any] = {}
        values = [_component_of(source, _evaluated(source, known)) for source in self._sources]
        return values if self._names is None else dict(zip(self._names, values, strict=True))


def _evaluated(source: Source, known: dict[int, Any]) -> Any:
    """Return the example of a source, cached in ``known``; a source made by `Source.map` evaluates its origin."""
    if id(source) not in known:
        if source.origin is None:
            known[id(source)] = source()
        else:
            before, fn = source.origin
            example = _evaluated(before, known)
            known[id(source)] = _mapped(source, fn, example)
    return known[id(source)]


def _mapped(source: Source, fn: Callable[[Any], Any], example: Any) -> Any:
    try:
        return fn(example)
    except StopIteration as end:
        raise OutOfRangeError(None, None, f"{source!r} has ended") from end


def _component_of(source: Source, example: Any) -> Any:
    """Return the array of a component; the source may return it in a list with one entry."""
    is_list = not source.is_bare and isinstance(example, list | tuple) and len(example) == 1
    return example[0] if is_list else example
