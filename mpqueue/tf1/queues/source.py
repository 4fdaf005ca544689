"""`Source`: a callable that returns one example per call, in place of TensorFlow's symbolic tensors."""

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from mpqueue.errors import OutOfRangeError
from mpqueue.tf1.queues.barging_lock import BargingLock
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import as_shapes
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape


class Source:
    """A callable that returns one example per call, with static information about the examples.

    It runs in the calling thread, which may be a thread of a queue runner or of a worker process. Several threads may
    call it at the same time, so ``fn`` must be thread-safe. Only calls of a generator's ``__next__`` are serialized.

    Example:
        A counter, with its dtype and shape::

            import itertools
            import mpqueue

            source = mpqueue.train.Source(itertools.count().__next__, "int64", [()])
            assert [source(), source()] == [0, 1]

    Args:
        fn: Called without arguments. Returns one example: an array, a list or tuple of arrays, or a dict of arrays.
            Raises `OutOfRangeError` or `StopIteration` at the end and at each later call. If it has the methods
            ``state_dict()`` and ``load_state_dict(state)``, the source is resumable.
        dtypes: NumPy dtype or "string" of each component, or a single dtype. None: unknown.
        shapes: Shape of each component, or a single shape. None means an unknown shape or dimension.
        names: Keys of the examples in the order of ``dtypes``, if the examples are dicts.

    Raises:
        TypeError: ``fn`` is not callable, a dtype does not exist, or a shape is invalid.
        ValueError: ``dtypes``, ``shapes`` and ``names`` differ in length, or there are shapes without dtypes.

    Follows: The tensors that ``tf.train.batch`` and ``tf.QueueBase.enqueue`` take. Only their dtypes and static shapes
        are known before a session runs them.
    """

    def __init__(self, fn: Callable[[], Any], dtypes: Any = None, shapes: Any = None, names: Any = None) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a callable that returns one example per call, got {fn!r}.")
        self._fn = fn
        self._names: list[str] | None = None if names is None else as_list(names)
        self._spec = _spec(dtypes, shapes, self._names)
        self._is_bare = dtypes is not None and not isinstance(dtypes, list | tuple)
        self._state_owner: Any = fn if _has_state(fn) else None
        is_generator = isinstance(getattr(fn, "__self__", None), GeneratorType)
        # A generator raises ValueError if a second thread calls it. One call may take long, so use a lock that does not
        # form convoys.
        self._turn = BargingLock() if is_generator else None

    def __call__(self) -> Any:
        """Return the next example of ``fn``.

        Raises:
            OutOfRangeError: The examples are exhausted.
            Exception: Any exception of ``fn``.
        """
        try:
            if self._turn is None:
                return self._fn()
            with self._turn.waking, self._turn:
                return self._fn()
        except StopIteration as end:
            raise OutOfRangeError(None, None, f"{self!r} has no more examples.") from end

    def map(self, fn: Callable[[Any], Any], *, dtypes: Any = None, shapes: Any = None, names: Any = None) -> "Source":
        """Return a source of ``fn(example)`` for each example of this one.

        Args:
            fn: Called with the whole example, which may be a list.
            dtypes: Dtypes of the results, as in the constructor. The dtypes of this source do not apply.
            shapes: Shapes of the results, as in the constructor.
            names: Names of the results, as in the constructor.

        Returns:
            A source that is resumable if this one is.

        Raises:
            TypeError: ``fn`` is not callable.
        """
        if not callable(fn):
            raise TypeError(f"fn must be a callable with one argument, the example, got {fn!r}.")
        mapped = Source(_Composed(self, fn), dtypes, shapes, names)
        mapped._state_owner = self._state_owner
        return mapped

    @property
    def dtypes(self) -> list[DType] | None:
        """NumPy dtype or "string" of each component, or None if unknown."""
        return None if self._spec is None else list(self._spec.dtypes)

    @property
    def shapes(self) -> list[Shape] | None:
        """Static shape of each component, or None if the dtypes are unknown."""
        return None if self._spec is None else list(self._spec.shapes)

    @property
    def names(self) -> list[str] | None:
        """Keys of the examples, or None if the examples are not dicts."""
        return None if self._names is None else list(self._names)

    @property
    def is_bare(self) -> bool:
        """True if each example is a single array, because ``dtypes`` was a single dtype outside of a list."""
        return self._is_bare

    @property
    def origin(self) -> tuple["Source", Callable[[Any], Any]] | None:
        """The source and the function that `map` has combined, or None."""
        return (self._fn.source, self._fn.fn) if isinstance(self._fn, _Composed) else None

    @property
    def function(self) -> Callable[[], Any]:
        """The function that returns the examples; for internal use."""
        return self._fn

    @property
    def is_resumable(self) -> bool:
        """True if the source can save its state and resume from it in another process."""
        return self._state_owner is not None

    def state_dict(self) -> Any:
        """Return the state of the source, as ``fn.state_dict()`` returns it.

        Raises:
            TypeError: The source is not resumable.
        """
        return self._resumable().state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Restore a state of this source.

        Args:
            state: Result of ``state_dict`` of the same source.

        Raises:
            TypeError: The source is not resumable.
        """
        self._resumable().load_state_dict(state)

    def _resumable(self) -> Any:
        if self._state_owner is None:
            raise TypeError(f"{self!r} cannot be resumed. Its function must have state_dict() and load_state_dict().")
        return self._state_owner

    def __repr__(self) -> str:
        name = getattr(self._fn, "__qualname__", None) or repr(self._fn)
        known = "" if self._spec is None else f", dtypes={[str(dtype) for dtype in self._spec.dtypes]}"
        return f"<{type(self).__name__} {name}{known}>"


class _Composed:
    """The callable ``fn(source())``. It is a class so that it can be pickled."""

    def __init__(self, source: Source, fn: Callable[[Any], Any]) -> None:
        self.source, self.fn = source, fn

    def __call__(self) -> Any:
        return self.fn(self.source())

    def __repr__(self) -> str:
        return f"{getattr(self.fn, '__qualname__', self.fn)}({self.source!r})"


def _has_state(fn: Callable[[], Any]) -> bool:
    return callable(getattr(fn, "state_dict", None)) and callable(getattr(fn, "load_state_dict", None))


def _spec(dtypes: Any, shapes: Any, names: list[str] | None) -> ElementSpec | None:
    if dtypes is None:
        if shapes is not None:
            raise ValueError(f"shapes={shapes!r} requires dtypes: give one dtype for each shape.")
        return None
    count = len(as_list(dtypes))
    if shapes is None:
        return ElementSpec(dtypes, None, names)
    # TensorFlow reads a list of None as one shape with unknown dimensions. Together with a list of dtypes, it is the
    # `shapes` property of an existing source, where each None means an unknown shape.
    if isinstance(dtypes, list) and shapes == [None] * count:
        return ElementSpec(dtypes, None, names)
    return ElementSpec(dtypes, as_shapes(shapes, count), names)
