"""Exceptions that refuse what Python's own code does with exceptions, and exceptions that are not an `Exception`."""

import asyncio
import dataclasses


class Refusal(BaseException):
    """The error that methods of these exceptions raise."""


def refuse(*_):
    raise Refusal


refusing = property(refuse, refuse)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Sealed(Exception):
    __slots__ = ("number",)
    __setattr__ = __delattr__ = refuse

    def __init__(self, number):
        super().__init__(number)
        object.__setattr__(self, "number", number)


class NumberedNotes(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.__notes__ = number


class RefusingNotes(Exception):
    __notes__ = refusing
    add_note = refuse


class Silent(Exception):
    __str__ = __repr__ = __format__ = refuse


class Unreducible(Exception):
    __reduce__ = __reduce_ex__ = __getstate__ = __setstate__ = refuse


class WithoutFields(Exception):
    __traceback__ = __cause__ = __context__ = __class__ = args = refusing
    with_traceback = refuse


class Opaque(Exception):
    __getattribute__ = __setattr__ = __delattr__ = refuse


class Incomparable(Exception):
    __bool__ = __len__ = __eq__ = __iter__ = __contains__ = refuse
    __hash__ = None


class OtherArguments(Exception):
    def __init__(self, one, two="two"):
        super().__init__(f"{one} {two}", two, one)


class _RefusingMeta(type):
    __name__ = __module__ = __mro__ = __dict__ = __flags__ = __base__ = refusing
    __instancecheck__ = __hash__ = __eq__ = __call__ = refuse


def _of_refusing_class(number):
    return Exception.__new__(RefusingClass, number)


class RefusingClass(Exception, metaclass=_RefusingMeta):
    pass


def local(number):
    class Local(Exception):
        __setattr__ = refuse

    return Local(number)


class OwnBase(BaseException):
    pass


class FrozenBase(asyncio.CancelledError):
    __setattr__ = refuse


MISBEHAVING = {
    "frozen": Frozen, "sealed": Sealed, "numbered notes": NumberedNotes, "refusing notes": RefusingNotes,
    "silent": Silent, "unreducible": Unreducible, "without fields": WithoutFields, "opaque": Opaque,
    "incomparable": Incomparable, "other arguments": OtherArguments, "refusing class": _of_refusing_class,
    "local": local,
}  # fmt: skip
BASES = {
    "cancelled": asyncio.CancelledError, "generator exit": GeneratorExit, "own": OwnBase, "frozen base": FrozenBase,
    "group": lambda number: BaseExceptionGroup("all", [OwnBase(number)]),
}  # fmt: skip
AT, LENGTH = 3, 6


class Raises:
    """A function of a number that raises for one number.

    Args:
        make: Makes the exception of the number.
    """

    def __init__(self, make):
        self.make = make

    def __call__(self, number):
        if number == AT:
            raise self.make(number)
        return number


class Counting:
    """An iterator over the results of a function for the numbers; an error does not end it."""

    def __init__(self, function):
        self.function, self.number = function, -1

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.number == LENGTH:
            raise StopIteration
        return self.function(self.number)


def taken(following, most=3 * LENGTH):
    """Return the results of a function until it raises StopIteration; the class of an error in place of a result."""
    found = []
    for _ in range(most):
        try:
            batch = following()
        except StopIteration:
            return found
        except BaseException as error:
            found.append(type(error))
        else:
            found.append(batch.tolist() if hasattr(batch, "tolist") else batch)
    raise AssertionError(f"no end after {found}")
