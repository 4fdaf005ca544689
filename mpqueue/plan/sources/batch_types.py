"""The types of batches and samples, which type checkers derive from the source.

`Loader`, the enqueuers, `Consumer` and `Dataset` are generic in the type of the objects that they yield. Without a
parameter in an annotation, this type is ``Any``, so ``Loader`` alone is valid in code that is checked strictly.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers know it; a default needs Python 3.13

    Batch_co = TypeVar("Batch_co", covariant=True, default=Any)
    Item_co = TypeVar("Item_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    Batch_co = TypeVar("Batch_co", covariant=True)
    Item_co = TypeVar("Item_co", covariant=True)

# None before the first batch. Type checkers accept a loop that reads it without a check for None.
MaybeNone: TypeAlias = Any
Batch = TypeVar("Batch")
Item = TypeVar("Item")


class Indexed(Protocol[Item_co]):
    """A source with an index. Its length has one of several names, so it is not a part of the type."""

    def __getitem__(self, index: int, /) -> Item_co: ...


class AwaitedIndexed(Protocol[Item_co]):
    """A source with ``async def __getitem__``. With ``Indexed[Awaitable[Item]]``, pyright infers no item of a list."""

    def __getitem__(self, index: int, /) -> Awaitable[Item_co]: ...


# A source with an index, a generator function, or an iterator. The type of other sources, such as an object with only
# ``__iter__``, is any: with it, an object with both methods would have the types of both.
SourceOf: TypeAlias = Indexed[Item] | Callable[[], Iterator[Item]] | Iterator[Item]
# A source with ``async def __getitem__``, or an asynchronous generator function.
AwaitedSourceOf: TypeAlias = AwaitedIndexed[Item] | Callable[[], AsyncIterator[Item]]
