"""A function of the user's, called for each of some values with random numbers of their own.

As long as nobody draws it is called by a loop in C, see `mpqueue.worker.sample_block`; behind the first draw, and where
that is not possible, by one in Python that begins each value.

On top of the function's own time a value costs 0.01 us in the first loop and 0.11 in the second (blocks of 256, one
core; minima of 400 turns beside the bare function in a list comprehension).
"""

from collections.abc import Callable, Sequence
from typing import Any

from mpqueue.dataset.nodes import returned_none
from mpqueue.seeding.seeds import place_of
from mpqueue.system.interrupts import is_of_handler
from mpqueue.worker.context import begin_block
from mpqueue.worker.runner import BeginBatch

_FEW = 4
_NONE = type(None)


def apply_to(
    values: list[Any], places: Sequence[Any], function: Callable[[Any], Any], begin: BeginBatch, seed: int, epoch: int,
    results: list[Any],
) -> None:  # fmt: skip
    """Call a function for each of some values.

    Args:
        values: They.
        places: Of each; or tokens of one type, which `place_of` makes their places of.
        function: The user's.
        begin: See `mpqueue.worker.lanes.LaneRun`.
        seed: Of the stage whose function it is.
        epoch: That is computed.
        results: Empty; those of the function are put into it, in order.

    Raises:
        Exception: What the function raised. The results of those before are there, and no others.
    """
    # To begin a block costs as much as to begin a few values.
    block = begin_block(begin, seed, epoch, values, places) if len(values) > _FEW else None
    if block is not None:
        try:
            results.extend(map(function, block.samples))
        finally:
            block.close()
        done = len(results)
        if done == len(values):
            return
        values, places = values[done:], places[done:]
    add = results.append
    if places and type(places[0]) is not int:
        places = list(map(place_of, places))
    for value, place in zip(values, places, strict=True):
        begin(seed, epoch, place)
        add(function(value))


def map_to(
    values: list[Any], places: Sequence[Any], function: Callable[[Any], Any], begin: BeginBatch, seed: int, epoch: int,
    results: list[Any], line: str,
) -> None:  # fmt: skip
    """Call the function of a map for each of some values; see `apply_to`. ``line`` is that of the stage.

    Raises:
        TypeError: The function returned None. It was called for values behind that one, too: what they are made of is
            looked at once for each block, which costs 20 ns a value.
    """
    try:
        apply_to(values, places, function, begin, seed, epoch, results)
    except Exception as error:
        if is_of_handler(error) or _NONE not in set(map(type, results)):
            raise
    if _NONE in set(map(type, results)):
        del results[next(at for at, made in enumerate(results) if made is None) :]
        raise returned_none(line)
