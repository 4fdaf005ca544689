"""Sources whose batches are known by their number; without a framework, so that workers need not import it."""

import numpy as np


class Numbered:
    """Batch i is an array of 4096 times i, aligned as in the ring, so that a framework may use its memory as it is."""

    def __init__(self, length=5):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full((8, 512), index, "float32")


class Mixed(Numbered):
    """Arrays, a number, text and nothing, by name."""

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
    """Batch 3 raises."""

    def __getitem__(self, index):
        if index == 3:
            raise LookupError("batch 3 has gone bad")
        return super().__getitem__(index)


def numbers_of(batches):
    """The numbers of batches of `Numbered`, each of which must be whole."""
    found = []
    for batch in batches:
        batch = np.asarray(batch)
        found.append(int(batch.flat[0]))
        assert (batch == batch.flat[0]).all(), "a batch was written over"
    return found


def taken(batches, at_most=100):
    """The numbers of batches whose first part is full of them, and the errors between them."""
    found = []
    while True:
        try:
            found.append(int(next(batches)[0][0]))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)
            assert len(found) <= at_most, "it comes again and again"
