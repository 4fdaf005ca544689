"""One load from its start to its stop, with all its faults."""

import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from helpers.batch_trees import same

from mpqueue import Loader
from parts.benchmark.sizes import array_bytes
from parts.soak import content, faults, sources

_ROOM = 40  # maximum number of batches that a consumer keeps


class Deviation(Exception):
    """A batch differs from the source's, or is missing."""


Tally = Counter[str]  # of "rounds", "batches" and "bytes", and of each fault by its name


class Round:
    """A random load.

    Args:
        seed: Seed of the load.
        endless: Whether epochs never end, for a process that will be killed.
    """

    def __init__(self, seed: int, *, endless: bool = False) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.tally = Tally({"rounds": 1})
        self.num_workers = chance.randint(1, 4)
        self.is_stream = chance.randrange(5) == 0
        self.is_laned = not self.is_stream and chance.randrange(3) == 0
        self.length = chance.randint(1, 200)
        self.num_epochs = 1 << 40 if endless else chance.randint(1, 3)
        self.one_in = chance.choice([20, 60, 200, 1 << 60])
        self.kills_one_in = chance.choice([50, 200, 1 << 60])
        self.keeps = chance.choice([0.0, 0.0, 0.05, 1.0])
        self.leaves_early = chance.choice([0.0, 0.0, 0.002, 0.02])
        self.has_left = False
        self.ordered = chance.randrange(3) != 0
        self.options = {
            "workers": self.num_workers,
            "max_queue_size": chance.choice([1, 2, 4, 10, 64, 500]),
            "restarts": 20,
            "copy": chance.randrange(5) == 0,
            "start_method": chance.choice(["forkserver"] * 6 + ["fork", "spawn"]),
            "ordered": self.ordered,
        }
        self.kept: list[tuple[Any, Any]] = []
        if self.is_laned:
            self.options |= {"seed": seed, "lanes": chance.choice([1, 4, 16])}
            self.indices = Loader(sources.indices_of(self.length), workers=0, seed=seed, lanes=self.options["lanes"])

    def run(self) -> Tally:
        """Run the load.

        Raises:
            Deviation: A batch was wrong; names the seed.
        """
        with tempfile.TemporaryDirectory(prefix="soak") as folder:
            try:
                with Loader(self._source(folder), **self.options) as loader:
                    for epoch in range(self.num_epochs):
                        self.epoch(loader, epoch)
                self._check_kept(0)  # views outlive their loader
            except Exception as error:
                raise Deviation(f"seed {self.seed}, {self.options}: {type(error).__name__}: {error}") from error
            self.tally.update(faults.struck(folder))
        return self.tally

    def _source(self, folder: str) -> Any:
        if self.is_stream:
            return sources.stream_of(self.seed, self.length, folder, self.one_in)
        if self.is_laned:
            return sources.dataset_of(self.seed, self.length, folder, self.one_in)
        kind = self.chance.choice([sources.Batches, sources.Changing, sources.Awaited])
        in_slot = self.chance.randrange(2) == 0
        self.source = kind(self.seed, self.length, folder, one_in=self.one_in, in_slot=in_slot)
        return self.source

    def epoch(self, loader: Loader, epoch: int) -> None:
        """Read an epoch.

        Raises:
            Deviation: A batch was wrong, missing or repeated.
        """
        expected = self._expected()
        while self._read(loader, expected):
            self.tally["resumed from a state"] += 1
            loader.load_state_dict(loader.state_dict())
        if expected and not self.has_left:
            raise Deviation(f"epoch {epoch} ended with {len(expected)} of {self.length} batches missing")

    def _read(self, loader: Loader, expected: dict[int, int]) -> bool:
        """Take batches; return True if the epoch must continue from a state, and record whether the loop was left."""
        self.has_left = False
        for batch in loader:
            self._take(batch, expected)
            self._disturb()
            # After the last batch, leaving is not early: `on_epoch_end` follows 0.1 s later or with the next loop.
            if self.chance.random() < self.leaves_early and expected:
                if self.is_laned and self.chance.randrange(2):
                    return True
                self.has_left = True
                self.tally["consumer left an epoch early"] += 1
                if self.chance.randrange(2):
                    self.tally["stopped in the middle"] += 1
                    loader.stop()
                return False
        return False

    def _expected(self) -> dict[int, int]:
        """Return the index of each expected batch, and its version."""
        if self.is_laned:
            return dict.fromkeys(self.indices, 0)
        version = 0 if self.is_stream else self.source.version
        return dict.fromkeys(range(self.length), version)

    def _take(self, batch: Any, expected: dict[int, int]) -> None:
        candidates = list(itertools.islice(expected, 1 if self.ordered else None))
        for index in candidates:
            correct = content.batch(self.seed, expected[index], index)
            if same(batch, correct):
                break
        else:
            raise Deviation(f"expected one of the batches {candidates[:5]}, got {batch!r:.300}")
        del expected[index]
        self.tally["batches"] += 1
        self.tally["bytes"] += array_bytes(correct)
        if self.chance.random() < self.keeps:
            self.kept.append((batch, correct))
            self.tally["batches kept"] += 1
        self._check_kept(_ROOM)

    def _check_kept(self, room: int) -> None:
        while len(self.kept) > room:
            found, correct = self.kept.pop(self.chance.randrange(len(self.kept)))
            if not same(found, correct):
                raise Deviation("a batch has changed while it was kept")

    def _disturb(self) -> None:
        if self.chance.randrange(self.kills_one_in) == 0 and self.options["start_method"] != "fork":
            kind = faults.kill_from_outside(self.chance)
            self.tally.update([kind] if kind else [])


def rounds(seed: int) -> Iterator[Round]:
    """Yield rounds indefinitely."""
    chance = random.Random(seed)
    while True:
        yield Round(chance.randrange(1 << 32))
