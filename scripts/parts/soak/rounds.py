"""One load from its start to its stop, with all that goes wrong meanwhile."""

import contextlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mpqueue import Loader
from mpqueue.errors import SharedMemoryFull
from parts.soak import content, faults, sources

_ROOM = 40  # batches that a hoarder keeps at most


class Deviation(Exception):
    """Something arrived that is not what the source gives, or something did not arrive."""


@dataclass
class Tally:
    """Counts of batches, bytes and faults."""

    rounds: int = 0
    batches: int = 0
    bytes: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.rounds += other.rounds
        self.batches += other.batches
        self.bytes += other.bytes
        self.faults += other.faults

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON can hold them."""
        return vars(self) | {"faults": dict(self.faults)}


class Round:
    """A load that follows from a seed.

    Args:
        seed: Of it.
        filler: A file that grows and shrinks beside the ring, so that memory is short.
        endless: Epochs without end, for who is going to be killed.
    """

    def __init__(self, seed: int, *, filler: "Filler | None" = None, endless: bool = False) -> None:
        self.seed, self.filler = seed, filler
        self.chance = chance = random.Random(seed)
        self.tally = Tally(rounds=1)
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
        """Do it.

        Raises:
            Deviation: Something came out wrong; names the seed.
        """
        with tempfile.TemporaryDirectory(prefix="soak") as folder:
            try:
                with Loader(self._source(folder), **self.options) as loader:
                    for epoch in range(self.num_epochs):
                        self._epoch(loader, epoch)
                self._check_kept(0)  # views outlive their loader
            except Exception as error:
                raise Deviation(f"seed {self.seed}, {self.options}: {type(error).__name__}: {error}") from error
            self.tally.faults.update(faults.struck(folder))
        return self.tally

    def _source(self, folder: str) -> Any:
        if self.is_stream:
            return sources.stream_of(self.seed, self.length, folder, self.one_in)
        if self.is_laned:
            return sources.dataset_of(self.seed, self.length, folder, self.one_in)
        changes = self.chance.randrange(2) == 0
        self.source = (sources.Changing if changes else sources.Batches)(
            self.seed, self.length, folder, one_in=self.one_in, in_slot=self.chance.randrange(2) == 0, changes=changes
        )
        return self.source

    def _epoch(self, loader: Loader, epoch: int) -> None:
        expected = self._expected()
        try:
            while self._read(loader, expected):
                self.tally.faults["went on from its state"] += 1
                loader.load_state_dict(loader.state_dict())
            if self.has_left:
                return
        except SharedMemoryFull:
            if self.filler is None:
                raise
            self.tally.faults["SharedMemoryFull raised"] += 1
            self.filler.resize(0)
            self._go_on(loader, expected)
            return
        if expected:
            raise Deviation(f"epoch {epoch} ended without {len(expected)} of {self.length} batches")

    def _read(self, loader: Loader, expected: dict[int, int]) -> bool:
        """Take batches; return True if the epoch is to go on from its state, and note if it was left."""
        self.has_left = False
        for batch in loader:
            self._take(batch, expected)
            self._disturb()
            # Behind the last batch it is not early: `on_epoch_end` is due, and comes 0.1 s later or with the next loop.
            if self.chance.random() < self.leaves_early and expected:
                if self.is_laned and self.chance.randrange(2):
                    return True
                self.has_left = True
                self.tally.faults["consumer left an epoch early"] += 1
                if self.chance.randrange(2):
                    self.tally.faults["stopped in the middle"] += 1
                    loader.stop()
                return False
        return False

    def _go_on(self, loader: Loader, expected: dict[int, int]) -> None:
        """Take the batches behind the one that there was no memory for; another loop has them.

        Where it was the last one, another loop is the next epoch; but of a stream, whose end is known when it has come,
        the loop up to there.
        """
        num_failed = 1
        while len(expected) > num_failed or self.is_stream or self.is_laned:
            try:
                for batch in loader:
                    if self.ordered:  # it is known which ones have failed
                        for index in list(expected)[:num_failed]:
                            del expected[index]
                        num_failed = 0
                    self._take(batch, expected)
            except SharedMemoryFull:
                num_failed += 1
                self._check_kept(0)  # they may be all that there is: not even the end of a stream has a place then
                continue
            return

    def _expected(self) -> dict[int, int]:
        """Index of each batch that is to come, and its version."""
        if self.is_laned:
            return dict.fromkeys(self.indices, 0)
        version = 0 if self.is_stream else self.source.version
        return dict.fromkeys(range(self.length), version)

    def _take(self, batch: Any, expected: dict[int, int]) -> None:
        candidates = list(expected)[: 1 if self.ordered else None]
        for index in candidates:
            wanted = content.batch(self.seed, expected[index], index)
            if content.same(batch, wanted):
                break
        else:
            raise Deviation(f"got {content.outline(batch)}, which is none of {candidates[:5]}")
        del expected[index]
        self.tally.batches += 1
        self.tally.bytes += content.num_bytes(wanted)
        if self.chance.random() < self.keeps:
            self.kept.append((batch, wanted))
            self.tally.faults["batches hoarded"] += 1
        self._check_kept(_ROOM)

    def _check_kept(self, room: int) -> None:
        while len(self.kept) > room:
            found, wanted = self.kept.pop(self.chance.randrange(len(self.kept)))
            if not content.same(found, wanted):
                raise Deviation("a batch has changed while it was kept")

    def _disturb(self) -> None:
        if self.chance.randrange(self.kills_one_in) == 0 and self.options["start_method"] != "fork":
            kind = faults.kill_from_outside(self.chance)
            self.tally.faults.update([kind] if kind else [])
        if self.filler is not None and self.chance.randrange(20) == 0:
            self.filler.resize(self.chance.randrange(self.filler.most))
            self.tally.faults["/dev/shm filled or emptied by others"] += 1


class Filler:
    """A file in /dev/shm that takes what the ring would like to have.

    Args:
        path: Of the file.
        most: Bytes that it may have.
    """

    def __init__(self, path: str, most: int) -> None:
        self._fd, self.most = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), most

    def resize(self, nbytes: int) -> None:
        """Take so many bytes, or all that there are."""
        os.ftruncate(self._fd, 0)
        if nbytes:
            with contextlib.suppress(OSError):  # full: what we want
                os.posix_fallocate(self._fd, 0, nbytes)


def rounds(seed: int) -> Iterator[Round]:
    """Rounds without end."""
    chance = random.Random(seed)
    while True:
        yield Round(chance.randrange(1 << 32))
