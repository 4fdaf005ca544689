"""Sources of batches that are identified by number. They need no framework, so workers need not import one."""

from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """A batch with named fields."""

    x: np.ndarray
    y: np.ndarray


class Numbered:
    """A source of batches: array i has 4096 elements equal to i, so a framework can use its memory without a copy."""

    def __init__(self, length=5):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full((8, 512), index, "float32")


class Mixed(Numbered):
    """A source of dictionaries with arrays, an integer, strings and None."""

    def __getitem__(self, index):
        return {
            "pixels": np.full((4, 3), index, "uint8"),
            "number": index,
            "names": [f"{index}a", f"{index}b"],
            "words": np.array(["x", "y"]),
            "day": np.array(["2020-01-01"], "M8[D]"),
            "none": None,
        }


class Broken(Numbered):
    """A source that raises in batch 3."""

    def __getitem__(self, index):
        if index == 3:
            raise LookupError("batch 3 is damaged")
        return super().__getitem__(index)


def numbers_of(batches):
    """Return the numbers of batches of `Numbered`, after checking that each batch is intact."""
    found = []
    for batch in batches:
        batch = np.asarray(batch)
        found.append(int(batch.flat[0]))
        assert (batch == batch.flat[0]).all(), "a batch was overwritten"
    return found


def iter_after(loader, count):
    """Return an iterator of a loader after a number of batches."""
    batches = iter(loader)
    for _ in range(count):
        next(batches)
    return batches


def taken(batches, at_most=100):
    """Return the first number of each batch, with errors in their places."""
    found = []
    while True:
        try:
            found.append(int(next(batches)[0][0]))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)
            assert len(found) <= at_most, "the errors do not end"
