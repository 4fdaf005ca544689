"""What mpqueue must hand out of a case's source, by arithmetic alone: the oracle where a case's own one is set aside.

Outcomes have the form of the case files: ``{"values": [...]}`` with ``"end"``, ``"error"`` or ``"blocked"`` beside it.
A model advances in step with the real enqueuer: `take` tells the next outcome of an ordered stream, `misfit` judges
the next one of an unordered stream, where every value comes exactly once per epoch.
"""

import json

# The exception that reaches the consumer when an item raises this one (PEP 479).
RISES_AS = {"StopIteration": "RuntimeError"}


def encoded(setup: dict, value: int):
    """A value of the source in the form of the case files."""
    if not setup.get("pair"):
        return value
    pair = [
        {"dtype": "float64", "shape": [2], "data": [float(value), value + 0.5]},
        {"dtype": "int64", "shape": [1], "data": [value]},
    ]
    return {"tuple": pair}


class _Items:
    """Which items of a source are None or raise."""

    def __init__(self, setup: dict):
        self.setup = setup
        self.none_at = set(setup.get("none_at", ()))
        self.raise_at = {int(index): name for index, name in setup.get("raise_at", {}).items()}

    def error(self, index: int) -> dict:
        name = self.raise_at[index]
        return {"error": RISES_AS.get(name, name), "cause_text": f"item {index}"}

    def texts(self, length: int, first: int = 0) -> list[str]:
        """The values of one pass, as text, so that equal ones can be found."""
        plain = (index for index in range(length) if index not in self.none_at and index not in self.raise_at)
        return [json.dumps(encoded(self.setup, first + index)) for index in plain]


class SequenceModel:
    """A run over a sequence: all epochs in a row, begun anew at item 0 by each start, or endless and gone on with."""

    def __init__(self, setup: dict):
        self._items = _Items(setup)
        self.length = setup["len"]
        self.position = 0  # items of this run that were handed out, skipped or raised
        self._first_epoch = 0
        self._pool: list[str] = []  # unordered: what is left of the current epoch

    def begin(self, epoch: int) -> None:
        """A start, when on_epoch_end has been called `epoch` times."""
        self._first_epoch = epoch
        self._pool = []
        if self.length is not None:
            self.position = 0

    @property
    def is_silent(self) -> bool:
        """Whether every item is None, so that a read waits, epoch after epoch, until the stop."""
        return self.length is not None and set(range(self.length)) <= self._items.none_at

    @property
    def epochs_taken(self) -> int:
        """Whole epochs of this run that were handed out."""
        return 0 if self.length is None else self.position // self.length

    @property
    def is_at_epoch_end(self) -> bool:
        """Whether the last item handed out was an epoch's last."""
        return self.epochs_taken > 0 and self.position % self.length == 0

    @property
    def left_of_epoch(self) -> int | None:
        """Items of the epoch that comes next from here: all of it at an epoch's end; None where it is endless."""
        return None if self.length is None else self.length - self.position % self.length

    def take(self, n: int) -> dict:
        """The outcome of reading `n` more items in order."""
        if self.is_silent:
            return {"blocked": True}
        values: list = []
        while len(values) < n:
            epoch, index = divmod(self.position, self.length) if self.length else (0, self.position)
            self.position += 1
            if index in self._items.raise_at:
                return {"values": values} | self._items.error(index)
            if index not in self._items.none_at:
                values.append(encoded(self._items.setup, 100 * (self._first_epoch + epoch) + index))
        return {"values": values}

    def misfit(self, outcome: dict) -> str | None:
        """What is wrong with the next outcome of a shuffled stream, in words, or None."""
        for value in outcome["values"]:
            epoch = self._first_epoch + self.epochs_taken
            self._pool = self._pool or self._items.texts(self.length, 100 * epoch)
            if json.dumps(value) not in self._pool:
                return f"{value} came twice, or is not of epoch {epoch}"
            self._pool.remove(json.dumps(value))
            self.position += 1
            if not self._pool:
                self.position = (epoch - self._first_epoch + 1) * self.length
        return None


class GeneratorModel:
    """A generator object: it never begins anew, and what a stop drops of it is lost."""

    def __init__(self, setup: dict, copies: int = 1):
        self._items = _Items(setup)
        self._count = setup["count"]
        self.position = 0  # the generator's own items that were handed out, skipped or raised
        self._copies = copies  # each worker process counts by itself
        self._pool = [] if self._count is None else self._items.texts(self._count) * copies
        self._seen: list[str] = []

    def take(self, n: int) -> dict:
        """The outcome of reading `n` more items in order."""
        values: list = []
        while len(values) < n:
            if self.position == self._count:
                return {"values": values, "end": "StopIteration"}
            index, self.position = self.position, self.position + 1
            if index in self._items.raise_at:
                self._count = self.position  # a generator that has raised is over
                return {"values": values} | self._items.error(index)
            if index not in self._items.none_at:
                values.append(encoded(self._items.setup, index))
        return {"values": values}

    def resume(self, fits, most_lost: int) -> None:
        """Go to where a new run went on: a stop drops what was prepared, at most `most_lost` items.

        ``fits()`` takes from this model, and tells whether the run's first read can have begun here.
        """
        here, count = self.position, self._count
        for lost in range(most_lost + 1):
            start = here + lost if count is None else min(here + lost, count)
            self.position = start
            found = fits()
            self.position, self._count = start, count
            if found:
                return
        self.position = here

    def misfit(self, outcome: dict) -> str | None:
        """What is wrong with the next outcome of racing workers, in words, or None."""
        texts = [json.dumps(value) for value in outcome["values"]]
        self._seen += texts
        self.position += len(texts)
        for text in texts:
            if self._count is None and self._seen.count(text) > self._copies:
                return f"{text} came {self._seen.count(text)} times"
            if self._count is not None and self._seen.count(text) > self._pool.count(text):
                return f"{text} came more often than it was made"
        if "end" in outcome and len(self._seen) < len(self._pool):
            return f"ended after {len(self._seen)} of {len(self._pool)} items"
        return None


def most_lost(max_queue_size: int, workers: int) -> int:
    """Items that a run may have prepared and nobody read: a full queue, and one in the hands of each worker."""
    return max_queue_size + workers + 1
