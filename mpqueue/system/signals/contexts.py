"""Context managers that are written as generators, for blocks that run user code.

`contextlib.contextmanager` assigns the ``__traceback__`` of the exception that leaves the block. Some exceptions refuse
that, such as frozen dataclasses: an error of the assignment would replace the exception.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

from mpqueue.system.signals.exceptions import cause_of, matches, set_traceback

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Context(AbstractContextManager[_T], Generic[_T]):
    def __init__(self, generator: Iterator[_T]) -> None:
        self._generator = generator

    def __enter__(self) -> _T:
        return next(self._generator)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            for _ in self._generator:
                raise RuntimeError("the generator of a context must yield once, got a second value")
            return
        try:
            self._generator.throw(error)  # type: ignore[attr-defined]
        except BaseException as raised:
            # A StopIteration becomes the cause of a RuntimeError when it passes through a generator.
            is_converted = matches(error, StopIteration) and cause_of(raised) is error
            if raised is not error and not is_converted:
                raise
            set_traceback(error, traceback)  # without the frames of the generator
            return
        raise RuntimeError("the generator of a context must not suppress exceptions")


def context_manager(function: Callable[_P, Iterator[_T]]) -> Callable[_P, AbstractContextManager[_T]]:
    """Return a function that makes a context manager of a generator function, like `contextlib.contextmanager`.

    Exceptions of the block cannot be suppressed.
    """

    @functools.wraps(function)
    def make(*args: _P.args, **options: _P.kwargs) -> AbstractContextManager[_T]:
        return _Context(function(*args, **options))

    return make
