"""Methods of `Dataset` that distinguish a call on the class from a call on a dataset.

A class method that is called on a dataset receives the class only. So ``a.concatenate(b)`` would lose ``a``.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from mpqueue.system.user_code.keywords import suggests_keywords

_Params = ParamSpec("_Params")
_Made_co = TypeVar("_Made_co", covariant=True)


class Caller(NamedTuple):
    """The class or the dataset that a method is called on.

    Attributes:
        kind: The class.
        own: The dataset, alone in a tuple. Empty for a call on the class.
    """

    kind: type[Any]
    own: tuple[Any, ...]

    def of(self, root: Any) -> Any:
        """Return a dataset of the class."""
        return self.kind._of(root)


class JoiningMethod(Generic[_Params, _Made_co]):
    """A method that reads several datasets: ``Dataset.zip(a, b)`` and ``a.zip(b)`` are equivalent.

    Args:
        function: The function. Its first argument is the `Caller`.
    """

    def __init__(self, function: Callable[Concatenate[Caller, _Params], _Made_co]) -> None:
        self._function = suggests_keywords(function)
        self.__doc__ = function.__doc__

    def __get__(self, dataset: object, kind: type[Any]) -> Callable[_Params, _Made_co]:
        """Return the method, bound to the class and to the dataset, if there is one."""
        return MethodType(self._function, Caller(kind, () if dataset is None else (dataset,)))


class Constructor(JoiningMethod[_Params, _Made_co]):
    """A method of the class only. A call on a dataset raises, because the dataset would be lost.

    Args:
        function: The function. Its first argument is the `Caller`.
    """

    def __get__(self, dataset: object, kind: type[Any]) -> Callable[_Params, _Made_co]:
        """Return the method, or a function that raises if this is a call on a dataset."""
        if dataset is None:
            return super().__get__(dataset, kind)
        name = self._function.__name__

        def refuse(*_: _Params.args, **__: _Params.kwargs) -> _Made_co:
            raise TypeError(
                f"{name} makes a new dataset and would lose the dataset it is called on: call it on the class, "
                f"{kind.__name__}.{name}(...). To join the two, use dataset.concatenate({kind.__name__}.{name}(...))"
            )

        refuse.__name__, refuse.__doc__ = name, self.__doc__
        return refuse
