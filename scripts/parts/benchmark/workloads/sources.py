"""Endless sources, created in every process that measures them."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.in_flight import ENDLESS
from parts.machine import CACHE, written
from parts.photographs.dataset import BATCH, photo_files, read_batch


class Source(mpqueue.Sequence):
    """A Sequence with one endless epoch."""

    def __len__(self) -> int:
        return ENDLESS


class Copies(Source):
    """Each batch is a new copy of the same arrays."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(array.copy() for array in self.arrays)


class CopiesInPlace(Copies):
    """The same, allocated by `mpqueue.empty`: in a worker of mpqueue, the copy is written directly into its slot."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(_copy_in_place(array) for array in self.arrays)


def _copy_in_place(array: np.ndarray) -> np.ndarray:
    out = mpqueue.empty(array.shape, array.dtype)
    np.copyto(out, array)
    return out


class Filled(Source):
    """Arrays that are filled in place. Unlike `CopiesInPlace`, the source has no memory that each worker duplicates.

    Args:
        shape: Shape of a float32 batch.
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __getitem__(self, index: int) -> np.ndarray:
        out = mpqueue.empty(self.shape, np.float32)
        out.fill(index)
        return out


class Photographs(Source):
    """Batches of 32 JPEG files, decoded, cropped, flipped and jittered as the demo does."""

    def __init__(self) -> None:
        files, _ = photo_files()
        self.paths, self.labels = files.paths, np.array(files.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        begin = index * BATCH % (len(self.paths) - BATCH)
        part = slice(begin, begin + BATCH)
        return read_batch(self.paths[part], augment=True), self.labels[part]


class Strings(Source):
    """Lists of 32 `bytes` of 0 to 4,000 bytes."""

    LONGEST = 4001

    def __init__(self) -> None:
        self.text = np.random.default_rng(0).bytes(2 * self.LONGEST)

    def __getitem__(self, index: int) -> list[bytes]:
        return [self.text[at : at + (index * 577 + at * 1009) % self.LONGEST] for at in range(32)]


class Tree(Source):
    """A dict of twelve arrays: numbers and short sequences of 32 examples."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        numbers = {f"number {column}": rng.random(32, np.float32) for column in range(6)}
        sequences = {f"sequence {column}": rng.integers(0, 1000, (32, 8 << column)) for column in range(6)}
        self.arrays = numbers | sequences

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self.arrays.items()}


class TokenRows(Source):
    """Rows of tokens from random places of a file, and the same rows one token later."""

    ROWS, LENGTH = 32, 1024

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """The file, mapped into memory by each process."""
        return np.memmap(token_file(), np.uint16, "r")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # otherwise a copy of the file

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        begins = np.random.default_rng(index).integers(0, len(self.tokens) - self.LENGTH, self.ROWS)
        first, later = (
            np.stack([self.tokens[at + shift : at + shift + self.LENGTH] for at in begins]).astype(np.int64)
            for shift in (0, 1)
        )
        return first, later


def token_file() -> Path:
    """Return a file of 20 million random tokens of a vocabulary of 50,257, written on first use."""
    tokens = np.random.default_rng(0)
    return written(CACHE / "tokens.uint16", lambda part: tokens.integers(0, 50_257, 20_000_000, np.uint16).tofile(part))


def prepared(shape: tuple[int, ...], dtype: Any, *, in_place: bool = False) -> Copies:
    """Return copies of an array of random content."""
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(dtype)
    return (CopiesInPlace if in_place else Copies)(array)
