"""An order drawn in the first item is drawn in the trainer for Keras iterators; otherwise there is a warning."""

import numpy as np
import pytest
from helpers.gates import Gate, pass_gate
from helpers.loader_runs import batches_of

from mpqueue import Dataset, Loader, worker_info
from mpqueue.worker.random_state import shuffle_detection
from mpqueue.worker.random_state.shuffle_detection import ShuffleDetector

pytestmark = pytest.mark.sample(2)


class Lazy:
    """A source with an order that is None until its first item."""

    def __init__(self, length=40):
        self.length, self.order = length, None

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if self.order is None:
            self._prepare()
        return np.full(2, self.order[index])

    def _prepare(self):
        self.order = np.random.permutation(self.length)


class OfKeras(Lazy):
    """The same with the attribute and the method of an iterator of Keras."""

    def __init__(self):
        super().__init__()
        self.index_array = None

    def __getitem__(self, index):
        if self.index_array is None:
            self._draw()
        return np.full(2, self.index_array[index])

    def _draw(self):
        self._set_index_array()

    def _set_index_array(self):
        self.index_array = np.random.permutation(self.length)


class OfAucmedi(OfKeras):
    """The same with the method of aucmedi, which also draws at the end of an epoch."""

    _set_index_array = property()  # raises an AttributeError

    def _draw(self):
        self.__set_index_array__()

    def __set_index_array__(self):
        self.index_array = np.random.permutation(self.length)

    def on_epoch_end(self):
        self.__set_index_array__()


class Dropping(OfKeras):
    """The same, but the end of an epoch drops the order."""

    def on_epoch_end(self):
        self.index_array = None


LATE = [OfKeras, OfAucmedi, Dropping]
INSIDE = {
    "source": lambda late: late,
    "map": lambda late: Dataset(late).map(abs),
    "batch": lambda late: Dataset(late).batch(2).map(np.ravel),
    "mix": lambda late: Dataset.mix([Dataset(late), Dataset(type(late)())]),
    "stream": lambda late: Dataset(late).filter(lambda sample: True).map(abs),
}


@pytest.mark.parametrize("make", LATE)
@pytest.mark.parametrize("inside", INSIDE)
def test_order_that_is_drawn_late_is_drawn_in_trainer(make, inside):
    num_sources = 2 if inside == "mix" else 1
    with Loader(INSIDE[inside](make()), workers=3) as loader:  # a warning would be an error, as in all tests
        for _ in range(2):
            numbers = [int(number) for batch in loader for number in batch[::2]]
            assert sorted(numbers) == sorted([*range(40)] * num_sources)


class Inside(Lazy):
    """The item itself assigns the order."""

    def __getitem__(self, index):
        if self.order is None:
            self.order = np.random.permutation(self.length)
        return np.full(2, self.order[index])


class Opening(Lazy):
    """A source that opens a file on first use, and draws for its batches."""

    def __init__(self):
        super().__init__()
        self.file = None

    def _prepare(self):
        self.file, self.order = __file__, {index: index + 0 * np.random.random() for index in range(self.length)}


@pytest.mark.parametrize(("make", "workers"), [(Opening, 2), (Inside, 1)])
def test_lazy_files_and_single_worker_draws_do_not_warn(make, workers):
    source = make()
    with Loader(source, workers=workers) as loader:
        assert sorted(int(batch[0]) for batch in loader) == list(range(40))
    assert getattr(source, "file", None) is None


class OfClass(Lazy):
    drawn = None

    def __getitem__(self, index):
        if self.drawn is None:
            type(self).drawn = np.random.permutation(self.length)
        return np.full(2, self.drawn[index])


class Within(Lazy):
    """The order belongs to a part of the source."""

    def __init__(self):
        super().__init__()
        self.part = {}

    def __getitem__(self, index):
        if not self.part:
            self.part["order"] = np.random.permutation(self.length)
        return np.full(2, self.part["order"][index])


def read_until_told(loader, caught):
    """Read until both workers have computed an item, and one worker two; one may compute an epoch alone."""
    for _ in range(1000):
        if caught:
            break
        list(loader)
    list(loader)  # once more: the warning is logged once


@pytest.mark.parametrize(("make", "name"), [(Lazy, "order"), (OfClass, "drawn"), (Within, r"part\['order'\]")])
def test_order_drawn_in_first_item_warns(make, name):
    pattern = rf"{make.__name__}\.{name} was created by the first item.*{make.__name__}\.__init__ and in on_epoch_end"
    with Loader(make(), workers=2, max_queue_size=4) as loader:
        with pytest.warns(UserWarning, match=pattern) as caught:
            read_until_told(loader, caught)
        assert len(caught) == 1


class Meeting(Inside):
    """Both workers are in their first items before either continues: neither computes an epoch alone."""

    def __init__(self, length, gate):
        super().__init__(length)
        self.gate = gate.address

    def __getitem__(self, index):
        if self.order is None:
            # Not random: two draws of few numbers may be equal.
            self.order = np.roll(np.arange(self.length), 1 + worker_info().id)
            pass_gate(self.gate)
        return np.full(2, self.order[index])


@pytest.mark.parametrize(("length", "batch_size"), [(3, None), (4, 2), (200, None)])
def test_first_epoch_warns_even_if_short(length, batch_size):
    with Gate() as gate, Loader(Meeting(length, gate), workers=2, batch_size=batch_size, max_queue_size=2) as loader:
        batches = iter(loader)
        for arrival in (gate.arrival(), gate.arrival()):
            arrival.let_go()
        with pytest.warns(UserWarning, match=r"Meeting\.order was created by the first item") as caught:
            assert len(list(batches)) == length // (batch_size or 1)
        assert len(caught) == 1


BOUND = {
    "shared table": lambda index: [3, 1, 2, 0, *range(100, 200)],
    "shape": lambda index: (480 + 16 * index, 320, 3),
    "strides": lambda index: [1, 2] if index else [2, 1],
    "turned shape": lambda index: (480, 320, 3) if index else (320, 480, 3),
    "crop box": lambda index: np.random.permutation([4, 30, 8, 60]),
    "sizes": lambda index: [900 - index, 30 + index, 70, 60, 50, 40, 1],
    "array of sizes": lambda index: np.array([900 - index, 30 + index, 70, 60, 50, 40, 1]),
    "words": lambda index: tuple(f"{word}{index}" for word in ("the", "quick", "brown", "fox", "jumps")),
    "numbers drawn": lambda index: np.random.default_rng().integers(1 << 60, size=40),
}


class OfFirstItem(Lazy):
    """A source that keeps data of its first item and of each item, and draws for each item, as sources do."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.kept = kind, None

    def __getitem__(self, index):
        if self.kept is None:
            self.kept = BOUND[self.kind](index)
        self.last = [index + 2, index, index + 1]
        return np.full(2, np.random.random())


@pytest.mark.parametrize("kind", BOUND)
def test_data_of_first_item_is_not_an_order(kind):
    batches_of(OfFirstItem(kind), workers=2, max_queue_size=4, start_method="fork")  # without a warning


def test_names_in_different_orders_warn():
    class Shuffled(OfFirstItem):
        def __getitem__(self, index):
            if self.kept is None:
                shards = np.random.default_rng().permutation([f"shard {number}" for number in range(9)])
                vars(self)["kept"] = list(map(str, shards))
            return index

    with Loader(Shuffled("shards"), workers=2, max_queue_size=4, start_method="fork", batch_size=None) as loader:
        with pytest.warns(UserWarning, match=r"Shuffled\.kept was created by the first item") as caught:
            read_until_told(loader, caught)


@pytest.mark.parametrize("view", [lambda tokens: tokens, np.asarray, lambda tokens: tokens[10:]])
def test_numbers_mapped_from_a_file_for_reading_are_no_order(tmp_path, view):
    """A search would read the whole file, which can be larger than memory."""
    numbers = np.random.default_rng(0).permutation(1000).astype(np.uint16)
    numbers.tofile(tmp_path / "tokens")
    for mode, is_order in (("r", False), ("c", True)):
        source = Lazy()
        detector = ShuffleDetector(source)
        assert detector.look(is_after=False) == {}
        source.order = view(np.memmap(tmp_path / "tokens", np.uint16, mode))
        assert list(detector.look(is_after=True)) == (["Lazy.order"] if is_order else [])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_checksum_of_an_array_depends_on_its_elements_and_not_on_their_order(dtype, monkeypatch):
    monkeypatch.setattr(shuffle_detection, "_CHUNK", 7)
    numbers = np.arange(100, dtype=dtype) - dtype(20 if dtype != np.uint8 else 0)
    mark_of = shuffle_detection.mark_of_elements
    checksum = mark_of(numbers)
    assert checksum == mark_of(np.random.default_rng(0).permutation(numbers))
    assert checksum != mark_of(numbers + dtype(1))
    assert checksum != mark_of(numbers[:-1])
