"""Sources that the user changes between the epochs of a `Loader`: each epoch uses the source as it is at its start."""

import itertools
import os
import threading
import warnings

import numpy as np
import pytest
from helpers.computed_source import Computed

from mpqueue import Dataset, Loader
from mpqueue.backends.sending.source_send import UnpicklableSource
from mpqueue.plan.sources.sources import Items

pytestmark = pytest.mark.sample(1)

HOWS = {
    "none": {"workers": 0},
    "one process": {"workers": 1},
    "four processes": {"workers": 4},
    "fork": {"workers": 2, "start_method": "fork"},
    "spawn": {"workers": 2, "start_method": "spawn"},
    "threads": {"workers": 2, "backend": "thread"},
}
FEW = pytest.mark.parametrize("how", [HOWS[name] for name in ("none", "one process", "fork", "threads")])


class Levels:
    """A source with items of its level and their index."""

    def __init__(self, length=3):
        self.level, self.length = 0, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return 100 * self.level + index


class Hooked(Levels):
    def on_epoch_end(self):
        """Have no effect; the method only has to exist."""


def numbers_of(batches):
    return [int(batch) for batch in batches]


def epochs_of(source, loader, *, grows=False, count=4):
    seen = []
    for _ in range(count):
        seen.append(numbers_of(loader))
        source.level += 1
        source.length += grows
    return seen


def expected(*, grows=False, count=4):
    return [[100 * level + index for index in range(3 + level * grows)] for level in range(count)]


@pytest.mark.parametrize(
    ("kind", "how"),
    [*((Levels, name) for name in HOWS), *((Hooked, name) for name in ("none", "one process", "threads"))],
)
def test_change_after_epoch_is_visible_in_next_epoch(kind, how):
    source = kind()
    with Loader(source, **HOWS[how]) as loader:
        assert epochs_of(source, loader, grows=True) == expected(grows=True)


class Shared(Levels):
    """A source with a length that is not sent to workers."""

    lengths = {"now": 3}

    def __len__(self):
        return self.lengths["now"]


@pytest.mark.parametrize("how", [HOWS["none"], HOWS["one process"], HOWS["threads"]])
def test_length_outside_of_source_is_read_at_each_epoch(how, monkeypatch):
    monkeypatch.setattr(Shared, "lengths", {"now": 3})
    seen = []
    with Loader(Shared(), **how) as loader:
        for _ in range(4):
            seen.append(len(numbers_of(loader)))
            Shared.lengths["now"] += 1
    assert seen == [3, 4, 5, 6]


class Shy(Levels):
    """A source that can fail to return its length, or to be pickled."""

    fault = None

    def __len__(self):
        if Shy.fault == "length":
            raise KeyError("its length")
        return super().__len__()

    def __getstate__(self):
        if Shy.fault == "pickle":
            raise KeyError("its state")
        return vars(self)

    def __getitem__(self, index):
        return os.getpid()


@pytest.mark.parametrize("fault", ["length", "pickle"])
def test_source_that_raises_at_start_of_loop_ends_no_worker(fault, monkeypatch):
    with Loader(Shy(), workers=1) as loader:
        before, second = numbers_of(loader), numbers_of(loader)  # from the second epoch on, the next is computed ahead
        assert second == before
        monkeypatch.setattr(Shy, "fault", fault)
        with pytest.raises((KeyError, UnpicklableSource)):
            iter(loader)
        monkeypatch.setattr(Shy, "fault", None)
        assert numbers_of(loader) == before


@FEW
def test_samples_samplers_and_ranks_use_current_source(how):
    for options in ({"batch_size": 2}, {"sampler": range(3)}, {"shard": (0, 1), "shuffle": True, "seed": 1}):
        source, seen = Levels(), []
        with Loader(source, **options, **how) as loader:
            for _ in range(3):
                seen.append({int(level) for batch in loader for level in np.ravel(batch) // 100})
                source.level += 1
        assert seen == [{0}, {1}, {2}]


@FEW
def test_change_is_visible_to_generator_function(how):
    source, seen = Levels(), []
    with Loader(lambda: iter([source.level]), **how) as loader:
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # each worker yields all elements
                seen.append(numbers_of(loader)[0])
            source.level += 1
    assert seen == [0, 1, 2]


def is_any(value):
    return True


@FEW
def test_change_after_exclusion_is_visible_in_next_epoch_of_stream(how):
    source, seen = Levels(6), []
    with Loader(Dataset(source).filter(is_any), lanes=2, **how) as loader:
        for epoch in range(3):
            seen.append(sorted(numbers_of(loader)))
            loader.exclude([epoch])  # which restarts the workers at the next epoch
            source.level += 1
    assert seen == [[100 * epoch + index for index in range(epoch, 6)] for epoch in range(3)]


class Laned:
    """An endless stream of numbers in virtual shards, with the level."""

    def __init__(self):
        self.level = 0

    def open_lane(self, run):
        return OfLane(self, run)

    def shape(self):
        return ["Laned"]


class OfLane:
    def __init__(self, source, run):
        self.source, self.run, self.number = source, run, run.state or 0

    def next(self):
        self.number += 1
        return 1000 * self.source.level + (self.number - 1) * self.run.num_lanes + self.run.lane

    def save(self):
        return self.number


@pytest.mark.parametrize(
    ("how", "is_saved"),
    [
        (HOWS["none"], True),
        (HOWS["none"], False),
        (HOWS["one process"], False),
        (HOWS["four processes"], True),
        (HOWS["threads"], True),
    ],
)
def test_endless_stream_continues_with_changed_source(how, is_saved, monkeypatch):
    if not is_saved:
        monkeypatch.setattr(OfLane, "save", lambda _self: None)
    source, found = Laned(), []
    with Loader(source, lanes=4, epoch_batches=10, **how) as loader:
        for _ in range(4):
            found += numbers_of(loader)
            source.level += 1
    assert found == [1000 * (number // 10) + number for number in range(40)]


@pytest.mark.parametrize("how", [HOWS[name] for name in ("none", "one process", "four processes")])
def test_abandoned_endless_stream_continues_with_changed_source(how):
    source = Laned()
    with Loader(source, lanes=4, epoch_batches=10, **how) as loader:
        found = numbers_of(itertools.islice(loader, 3))
        source.level += 1
        found += numbers_of(loader)
    assert found == [0, 1, 2, *range(1003, 1013)]


@FEW
def test_loop_after_error_uses_fixed_source(how):
    source = [0, None, 2]  # `int` fails
    with Loader(Computed(lambda index: int(source[index]), 3), **how) as loader:
        with pytest.raises(TypeError):
            numbers_of(loader)
        source[:] = 500, 501, 502
        assert numbers_of(loader) == [502]
        assert numbers_of(loader) == [500, 501, 502]


class Noted(Levels):
    """A source that records computed items in a file, for all processes."""

    def __init__(self, path):
        super().__init__(5)
        self.path = str(path)

    def __getitem__(self, index):
        with open(self.path, "a") as file:
            file.write(f"{self.level}{index} ")
        return super().__getitem__(index)

    def noted(self):
        with open(self.path) as file:
            return file.read().split()


def numbers_and_all_work_ahead(loader):
    """Return the numbers of an epoch, and wait until no batch is computed ahead anymore."""
    batches = iter(loader)
    numbers = numbers_of(batches)
    batches.pipeline.dealing.resume()
    batches.pipeline.dealing.pause()
    batches.pipeline.dealing.resume()
    return numbers


def test_batches_computed_ahead_are_kept_without_changes(tmp_path):
    source = Noted(tmp_path / "noted")
    with Loader(source, workers=2, max_queue_size=4) as loader:
        assert len(numbers_of(loader)) == 5
        for _ in range(2):
            assert len(numbers_and_all_work_ahead(loader)) == 5
        assert len(source.noted()) == 5 + 5 + 5 + 4


def test_batches_computed_ahead_are_recomputed_after_change(tmp_path):
    source = Noted(tmp_path / "noted")
    with Loader(source, workers=2, max_queue_size=4) as loader:
        numbers_of(loader)
        numbers_and_all_work_ahead(loader)
        assert sorted(source.noted()) == sorted([*["00", "01", "02", "03"] * 3, *["04"] * 2])
        source.level = 1
        assert numbers_of(loader) == [100, 101, 102, 103, 104]


def test_source_that_can_no_longer_be_pickled_raises_without_loss():
    source = Levels()
    with Loader(source, workers=1) as loader:
        numbers_of(loader)
        source.lock = threading.Lock()
        for _ in range(2):
            with pytest.raises(UnpicklableSource, match=r"has changed.*source\.lock cannot be pickled"):
                numbers_of(loader)
        del source.lock
        assert loader.epoch == 1
        source.level = 1
        assert numbers_of(loader) == [100, 101, 102]


def test_state_between_epochs_belongs_to_changed_source():
    source = Levels()
    with Loader(source, workers=1) as loader:
        numbers_of(loader)
        source.level = 1
        next(iter(loader))
        state = loader.state_dict()
    with Loader(source, workers=0) as resumed:
        resumed.load_state_dict(state)
        assert numbers_of(resumed) == [101, 102]


@pytest.mark.parametrize(("package", "is_own"), [("keras.src.trainers", False), ("tensorflow", False), ("users", True)])
@pytest.mark.parametrize("name", ["PyDataset", "Sequence"])
def test_hook_of_framework_base_class_is_ignored(name, package, is_own):
    class RankStart(Levels):
        def on_epoch_end(self):
            """Have no effect, like Keras's."""

    RankStart.on_epoch_end.__module__, RankStart.on_epoch_end.__qualname__ = package, f"{name}.on_epoch_end"

    class Own(RankStart):
        def on_epoch_end(self):
            """Have no effect; the method only has to exist."""

    assert (Items(RankStart()).may_change(), Items(RankStart()).epoch_end() is not None) == (is_own, is_own)
    assert Items(Own()).may_change()
