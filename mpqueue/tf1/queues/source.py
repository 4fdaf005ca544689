"""`Source`: a callable that gives one example per call, in the place of TensorFlow's symbolic tensors."""

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
    """A callable that gives one example per call, with what is known beforehand about the examples.

    It runs where it is called: in the caller's thread, in a thread of a queue runner, or in a worker process. Several
    threads may call it at once, and then ``fn`` has to allow that; a generator's ``__next__`` does not, so that such
    calls are made one after the other.

    Example:
        A counter, with its dtype and shape::

            import itertools
            import mpqueue

            source = mpqueue.train.Source(itertools.count().__next__, "int64", [()])
            assert [source(), source()] == [0, 1]

    Args:
        fn: Called without arguments. Returns one example: an array, a list or tuple of arrays, or a dict of them.
            Raises `OutOfRangeError`, or StopIteration, at the end and at each later call. With methods
            ``state_dict()`` and ``load_state_dict(state)`` it makes the source resumable.
        dtypes: NumPy dtype or "string" of each component, or one alone. None: nothing is known.
        shapes: Shape of each component, or one alone; None for an unknown shape, or in one for an unknown dimension.
        names: Keys of the examples in the order of ``dtypes``, if the examples are dicts.

    Raises:
        TypeError: ``fn`` is not callable, a dtype does not exist, a shape is none.
        ValueError: ``dtypes``, ``shapes`` and ``names`` differ in length, or there are shapes without dtypes.

    Follows: The tensors that ``tf.train.batch`` and ``tf.QueueBase.enqueue`` take: their dtypes and static shapes are
    known before a session runs them, and nothing else.
    """

    def __init__(self, fn: Callable[[], Any], dtypes: Any = None, shapes: Any = None, names: Any = None) -> None:
        if not callable(fn):
            raise TypeError(f"a Source takes a function that gives one example per call, got {fn!r}")
        self._fn = fn
        self._names: list[str] | None = None if names is None else as_list(names)
        self._spec = _spec(dtypes, shapes, self._names)
        self._is_bare = dtypes is not None and not isinstance(dtypes, list | tuple)
        self._state_owner: Any = fn if _has_state(fn) else None
        is_generator = isinstance(getattr(fn, "__self__", None), GeneratorType)
        self._turn = BargingLock() if is_generator else None  # its turn may be long

    def __call__(self) -> Any:
        """Return the next example, as ``fn`` gave it.

        Raises:
            OutOfRangeError: There is no further one.
            Exception: Whatever ``fn`` raises.
        """
        try:
            if self._turn is None:
                return self._fn()
            with self._turn.waking, self._turn:
                return self._fn()
        except StopIteration as end:
            raise OutOfRangeError(None, None, f"{self!r} has ended") from end

    def map(self, fn: Callable[[Any], Any], *, dtypes: Any = None, shapes: Any = None, names: Any = None) -> "Source":
        """Return a source of ``fn(example)`` for each example of this one.

        Args:
            fn: Called with the whole example: a list, if this source gives lists.
            dtypes: Dtypes of the results, as in the constructor; nothing carries over from this source.
            shapes: As in the constructor.
            names: As in the constructor.

        Returns:
            A source that is resumable if this one is.

        Raises:
            TypeError: ``fn`` is not callable.
        """
        if not callable(fn):
            raise TypeError(f"map takes a function of one example, got {fn!r}")
        mapped = Source(_Composed(self, fn), dtypes, shapes, names)
        mapped._state_owner = self._state_owner
        return mapped

    @property
    def dtypes(self) -> list[DType] | None:
        """NumPy dtype or "string" of each component, None if nothing is known."""
        return None if self._spec is None else list(self._spec.dtypes)

    @property
    def shapes(self) -> list[Shape] | None:
        """Shape of each component as far as it is known, None if not even the dtypes are."""
        return None if self._spec is None else list(self._spec.shapes)

    @property
    def names(self) -> list[str] | None:
        """Keys of the examples, None if they are no dicts."""
        return None if self._names is None else list(self._names)

    @property
    def is_bare(self) -> bool:
        """True if the examples are bare arrays, no lists or dicts: one dtype was given, not in a list."""
        return self._is_bare

    @property
    def origin(self) -> tuple["Source", Callable[[Any], Any]] | None:
        """The source and the function of which `map` made this one, None if it did not."""
        return (self._fn.source, self._fn.fn) if isinstance(self._fn, _Composed) else None

    @property
    def function(self) -> Callable[[], Any]:
        """The function that it calls; for the library itself."""
        return self._fn

    @property
    def is_resumable(self) -> bool:
        """True if the source can give its state, and go on from there in another process."""
        return self._state_owner is not None

    def state_dict(self) -> Any:
        """Return the source's state, as ``fn.state_dict()`` gives it.

        Raises:
            TypeError: It is not resumable.
        """
        return self._resumable().state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Go on from where a source was when ``state_dict`` gave ``state``.

        Args:
            state: What ``state_dict`` of the same source gave.

        Raises:
            TypeError: It is not resumable.
        """
        self._resumable().load_state_dict(state)

    def _resumable(self) -> Any:
        if self._state_owner is None:
            raise TypeError(f"{self!r} cannot be resumed: its function has no state_dict() and load_state_dict(state)")
        return self._state_owner

    def __repr__(self) -> str:
        name = getattr(self._fn, "__qualname__", None) or repr(self._fn)
        known = "" if self._spec is None else f", dtypes={[str(dtype) for dtype in self._spec.dtypes]}"
        return f"<{type(self).__name__} {name}{known}>"


class _Composed:
    """``fn(source())``; a class because it has to be picklable by name."""

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
            raise ValueError(f"got the shapes {shapes!r} without dtypes: give one dtype for each shape")
        return None
    count = len(as_list(dtypes))
    if shapes is None:
        return ElementSpec(dtypes, None, names)
    # A list of nothing but None would be read as one shape of unknown dimensions, as TensorFlow reads it. Beside a list
    # of dtypes it is what the properties of another source give: unknown shapes.
    if isinstance(dtypes, list) and shapes == [None] * count:
        return ElementSpec(dtypes, None, names)
    return ElementSpec(dtypes, as_shapes(shapes, count), names)
