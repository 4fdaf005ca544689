"""Sources that change although their object does not: no batch of an epoch is computed before this epoch begins."""

import itertools

import numpy as np
import pytest
from helpers.engine_parts import work_items_of

from mpqueue import Dataset, Loader

pytestmark = pytest.mark.sample(1)

HOWS = {
    "none": {"workers": 0},
    "one process": {"workers": 1},
    "three processes": {"workers": 3},
    "fork": {"workers": 3, "start_method": "fork"},
    "spawn": {"workers": 1, "start_method": "spawn"},
    "threads": {"workers": 3, "backend": "thread"},
}
LENGTH = 6


class Follows:
    """A source that returns the present value of a mapped file."""

    def __init__(self, path, mode="w+"):
        self.value = np.memmap(path, np.int64, mode, shape=(1,))

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        return int(self.value[0])


class Hooked(Follows):
    def on_epoch_end(self):
        """Have no effect; the method only has to exist."""


class Stateful(Hooked):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """Have no effect: the state is in the file."""


class Declares(Follows):
    """A source that reads a file unknown to the loader, and declares whether it changes."""

    def __init__(self, path, *, constant):
        super().__init__(path)
        self.path, self.constant = str(path), constant
        if not constant:
            del self.value

    def __getitem__(self, index):
        return int(np.fromfile(self.path, np.int64)[0])


def writer(path):
    """Return a function that writes a value into the file of a source."""
    value = np.memmap(path, np.int64, "r+")
    return lambda epoch: value.put(0, epoch)


def num_dealt(loader):
    """Return the number of batches that are computed, or being computed, and not returned."""
    return len(work_items_of(loader))


def assert_follows(loader, write, *, first=0):
    for epoch in range(first, first + 4):
        write(epoch)
        assert {int(value) for batch in loader for value in np.ravel(batch)} == {epoch}
        assert num_dealt(loader) == 0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "value"


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_epoch_begins_with_the_present_content_of_shared_memory(path, how):
    with Loader(Follows(path), **how) as loader:
        assert_follows(loader, writer(path))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Hooked, {}),
        (Follows, {"batch_size": 2, "shuffle": True}),
        (Follows, {"batch_size": 2, "sampler": range(LENGTH)}),
        (Follows, {"batch_size": 2, "threads": 2}),
        (Follows, {"ordered": False}),
        (lambda path: Dataset(Follows(path)).map(abs).batch(2), {}),
        (lambda path: Dataset(Follows(path)).filter(lambda value: True).batch(2), {}),
        (lambda path: Dataset.mix([Dataset(Follows(path)), Dataset(Follows(path, "r+"))]).batch(3), {}),
    ],
)
def test_every_kind_of_order_waits_for_its_epoch(path, kind, options):
    with Loader(kind(path), workers=2, **options) as loader:
        assert_follows(loader, writer(path))


class TellsValue:
    """A function that adds the value of a mapped file."""

    def __init__(self, path):
        self.value = np.memmap(path, np.int64, "w+", shape=(1,))

    def __call__(self, element):
        return 0 * element + self.value[0]


def always(value):
    return True


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "of",
    [
        lambda tell: lambda: (tell(0) for _ in range(7)),
        lambda tell: Dataset.range(30).filter(always).map(tell),
        lambda tell: Dataset.range(30).filter(always).map(tell, threads=2),
        lambda tell: Dataset.range(30).map(tell).filter(always, threads=2).map(abs).batch(2),
        lambda tell: Dataset(lambda: iter(range(7))).map(abs).map(abs).map(abs).map(abs).map(tell).batch(2),
        lambda tell: Dataset.mix([Dataset.range(20).map(tell).filter(always), Dataset.range(20).map(tell)]).batch(2),
    ],
    ids=["generator", "map", "threads", "filter", "deep", "mix"],
)
def test_endless_stream_reads_nothing_ahead_of_its_epoch(path, of, workers):
    with Loader(of(TellsValue(path)), workers=workers, lanes=2, epoch_batches=5, seed=1) as loader:
        assert_follows(loader, writer(path))


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_endless_stream_left_early_drops_what_it_computed_ahead(path, how):
    stream, write = Dataset.range(30).filter(always).map(TellsValue(path)), writer(path)
    with Loader(stream, lanes=3, epoch_batches=8, seed=1, **how) as loader:
        for epoch in range(4):
            write(epoch)
            assert list(map(int, itertools.islice(loader, 3))) == [epoch] * 3


def test_state_between_two_epochs_begins_no_epoch(path):
    source, write = Stateful(path), writer(path)
    with Loader(source, workers=1) as loader:
        for epoch in range(3):
            write(epoch)
            assert set(map(int, loader)) == {epoch}
            state = loader.state_dict()
            assert num_dealt(loader) == 0
    with Loader(source, workers=2) as resumed:
        resumed.load_state_dict(state)
        assert_follows(resumed, write, first=3)


def test_middle_of_an_epoch_is_computed_ahead(path):
    with Loader(Follows(path), workers=1) as loader:
        for _ in range(2):
            batches = iter(loader)
            next(batches)
            assert num_dealt(loader) == LENGTH - 1
            list(batches)


def test_shared_memory_that_the_source_gets_later_is_noticed(path):
    source = Follows(path)
    write, source.value = writer(path), np.zeros(1, np.int64)
    with Loader(source, workers=1) as loader:
        assert [set(map(int, loader)) for _ in range(2)] == [{0}, {0}]
        assert num_dealt(loader) > 0
        source.value = np.memmap(path, np.int64, "r+")
        assert_follows(loader, write)


def test_source_that_declares_itself_not_constant_waits_for_its_epoch(path):
    source = Declares(path, constant=False)
    with Loader(source, workers=2) as loader:
        assert_follows(loader, writer(path))


@pytest.mark.parametrize("kind", [lambda path: Declares(path, constant=True), lambda path: Follows(path, "r")])
def test_constant_sources_and_maps_for_reading_are_computed_ahead(path, kind):
    np.zeros(1, np.int64).tofile(path)
    with Loader(kind(path), workers=1) as loader:
        assert [list(map(int, loader)) for _ in range(2)] == [[0] * LENGTH] * 2
        assert num_dealt(loader) > 0
