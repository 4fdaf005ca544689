"""Random features, and random batches of Examples with most of these features; from a seed."""

import random

import numpy as np
from helpers.example_encoding import block, bytes_list, entry, example, float_list, int64_list

from mpqueue import files

KEYS = ["a", "b", "a key of more than sixteen bytes", ""]


class RandomExamples:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.features = {}
        self._kinds = {}
        for key in self.random.sample(KEYS, self.random.randint(1, 4)):
            self._kinds[key] = dtype, size = (
                self.random.choice(["int64", "float32", "string"]),
                self.random.choice([1, 1, 3, 4]),
            )
            self.features[key] = self._feature(dtype, size)

    def _feature(self, dtype, size):
        shape = {1: self.random.choice([[], [1]]), 3: [3], 4: [2, 2]}[size]
        default = None if self.random.random() < 0.5 else np.full(shape, b"d" if dtype == "string" else 5)
        return self.random.choice(
            [
                files.VarLenFeature(dtype),
                files.FixedLenFeature(shape, dtype, default),
                files.FixedLenSequenceFeature(shape, dtype, allow_missing=True),
            ]
        )

    def batch(self, size, missing=0.0, odd=0.0, order=False, alike=False):
        """Return records; ``missing`` and ``odd`` are the fractions of missing features and of unusual encodings."""
        counts = {key: self._count(key) for key in self.features} if alike else None
        return [self._record(missing, odd, order, counts) for _ in range(size)]

    def _count(self, key):
        size = self._kinds[key][1]
        if isinstance(self.features[key], files.FixedLenFeature):
            return size
        return size * self.random.randint(0, 3)

    def _record(self, missing, odd, order, counts):
        entries = []
        for key in self.features:
            if self.random.random() >= missing:
                count = counts[key] if counts else self._count(key)
                entries.append(entry(key.encode(), self._list(self._kinds[key][0], count, odd, counts is not None)))
        if order:
            self.random.shuffle(entries)
            entries.append(entry(b"unrequested", self._list("string", 1, 0.0, alike=False)))
        record = example(*entries)
        if self.random.random() < odd:
            return self.random.choice(
                [record[:-1], record + b"\x10\x05", b"", record + record, block(0x12, b"") + record]
            )
        return record

    def _list(self, dtype, count, odd, alike):
        packed = self.random.random() >= odd
        if dtype == "float32":
            return float_list(
                *(self.random.choice([0.0, -1.5, 1e30, self.random.random()]) for _ in range(count)), packed=packed
            )
        if dtype == "string":
            return bytes_list(*(b"x" * (4 if alike else self.random.choice([0, 1, 5, 200])) for _ in range(count)))
        bits = 6 if alike else self.random.choice([1, 7, 14, 40, 63, 64])
        return int64_list(*(self.random.getrandbits(bits) for _ in range(count)), packed=packed)
