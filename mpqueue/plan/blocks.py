"""`Blocks`: a shuffle by blocks of neighbours, as an option."""

from dataclasses import dataclass
from typing import Literal

from mpqueue.plan.checks import is_integer

Block = int | Literal["group"]


@dataclass(frozen=True)
class Blocks:
    """A shuffle by blocks of neighbours, for ``Loader(shuffle=...)``.

    It is `Dataset.shuffle` with ``block`` and ``blocks``: the blocks are permuted, and the samples of each group of
    consecutive blocks are permuted. The order is a function of (seed, epoch, place), as that of a full shuffle.

    Example:
        Rows of a table, which is stored in groups of 100::

            import mpqueue

            rows = list(range(1000))
            blocks = mpqueue.Blocks(100, 4)
            with mpqueue.Loader(rows, batch_size=50, shuffle=blocks, seed=1, workers=1) as loader:
                for batch in loader:
                    assert len({row // 100 for row in batch.tolist()}) <= 4

    Args:
        block: Number of neighbours in a block; or "group", for the row groups of `mpqueue.files.Parquet` and similar
            files.
        blocks: Number of blocks in a group.

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is below 1, or ``block`` is another string.
    """

    block: Block
    blocks: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.block, str) and self.block != "group":
            raise ValueError(f'block must be a number of neighbours or "group", got {self.block!r}')
        for name in ("block", "blocks"):
            value = getattr(self, name)
            if name == "block" and isinstance(value, str):
                continue
            if not is_integer(value):
                raise TypeError(f"{name} must be an integer, got {value!r}")
            if int(value) < 1:
                raise ValueError(f"{name} must be 1 or more, got {value!r}")
            object.__setattr__(self, name, int(value))
