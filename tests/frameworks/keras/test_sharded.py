"""Keras 3.16 and later: orders that depend on the number of the epoch, and batches divided among processes."""

import pytest

pytest.importorskip("keras.utils")

import itertools
import random

from helpers import fit_datasets
from helpers.keras_fits import as_py_dataset, assert_same, fit
from keras.src.trainers import data_adapters
from keras.src.trainers.data_adapters import py_dataset_adapter as adapter

import mpqueue
from mpqueue.frameworks.keras.accelerate import accelerate, install
from mpqueue.frameworks.keras.passes import PassEnqueuer


def taken(enqueuer, epoch, count=None):
    enqueuer.start(epoch)
    try:
        return [int(batch) for batch in itertools.islice(enqueuer.get(), count or 100)]
    finally:
        enqueuer.stop()
        enqueuer.park()


def order_of(epoch, length):
    order = list(range(length))
    random.Random(epoch).shuffle(order)
    return order


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_order_depends_on_the_epoch_and_not_on_the_trainers_generator(processes):
    before = random.getstate()
    enqueuer = PassEnqueuer(fit_datasets.Indices(9), 2, processes, shuffle=True)
    assert [taken(enqueuer, epoch, 9) for epoch in (3, 0)] == [order_of(3, 9), order_of(0, 9)]
    assert random.getstate() == before


def test_epoch_that_has_begun_keeps_its_number():
    enqueuer = PassEnqueuer(fit_datasets.Indices(9), 2, shuffle=True)
    enqueuer.start(3)
    assert taken(enqueuer, 4, 9) == order_of(3, 9)


@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_divide_the_batches_of_an_order(shuffle):
    order = order_of(5, 10) if shuffle else list(range(10))
    for shard in range(3):
        enqueuer = PassEnqueuer(fit_datasets.Indices(10), 2, shuffle=shuffle, num_data_shards=3, data_shard_id=shard)
        assert taken(enqueuer, 5, len(order[shard::3])) == order[shard::3]


def test_processes_divide_the_batches_of_an_endless_dataset():
    for shard in range(3):
        enqueuer = PassEnqueuer(fit_datasets.Indices(None), 2, num_data_shards=3, data_shard_id=shard)
        assert taken(enqueuer, 0, 4) == list(range(shard, 12, 3))


class ShardedEnqueuer(adapter.OrderedEnqueuer):
    """The enqueuer of Keras 3.16, reduced to its signatures."""

    def __init__(
        self, py_dataset, workers=1, use_multiprocessing=False, max_queue_size=10, shuffle=False, num_data_shards=1,
        data_shard_id=0,
    ):  # fmt: skip
        raise AssertionError

    def start(self, epoch):
        raise AssertionError


class ShardedAdapter(adapter.PyDatasetAdapter):
    """The adapter of Keras 3.16: it counts epochs, and takes its part of the batches."""

    shards = 1, 0  # number of shards, and this one

    def __init__(self, x, class_weight=None, shuffle=False):
        self.py_dataset, self.class_weight, self.shuffle = x, class_weight, shuffle
        self.enqueuer = self._output_signature = None
        self._within_epoch, self._epoch = False, 0
        self._num_data_shards, self._data_shard_id = self.shards
        if x.workers > 1 or (x.workers > 0 and x.use_multiprocessing):
            self.enqueuer = adapter.OrderedEnqueuer(
                x, workers=x.workers, use_multiprocessing=x.use_multiprocessing, max_queue_size=x.max_queue_size,
                shuffle=shuffle, num_data_shards=self._num_data_shards, data_shard_id=self._data_shard_id,
            )  # fmt: skip

    def _finite_generator(self):
        indices = list(range(self.py_dataset.num_batches))
        if self.shuffle:
            random.Random(self._epoch).shuffle(indices)
        for index in indices[self._data_shard_id :: self._num_data_shards]:
            yield self._standardize_batch(self.py_dataset[index])

    def _finite_enqueuer_generator(self):
        self.enqueuer.start(self._epoch)
        for index, batch in enumerate(self.enqueuer.get()):
            yield self._standardize_batch(batch)
            if index >= self.num_batches - 1:
                self.enqueuer.stop()
                return

    def on_epoch_begin(self):
        assert not self._within_epoch
        self._within_epoch = True
        self.py_dataset.on_epoch_begin()
        if self.enqueuer:
            self.enqueuer.start(self._epoch)

    def on_epoch_end(self):
        if self.enqueuer:
            self.enqueuer.stop()
        self.py_dataset.on_epoch_end()
        self._within_epoch = False
        self._epoch += 1

    @property
    def num_batches(self):
        return len(range(self._data_shard_id, self.py_dataset.num_batches, self._num_data_shards))


@pytest.fixture
def keras_316(monkeypatch, fresh_replacement):
    """The installed Keras with the adapter and the signatures of 3.16."""
    monkeypatch.setattr(adapter, "OrderedEnqueuer", ShardedEnqueuer)
    for module in (adapter, data_adapters):
        monkeypatch.setattr(module, "PyDatasetAdapter", ShardedAdapter)


@pytest.mark.usefixtures("keras_316")
@pytest.mark.parametrize(("kind", "shards"), [("plain", (1, 0)), ("built", (2, 1))])
def test_fits_equal_those_without_workers(monkeypatch, kind, shards):
    monkeypatch.setattr(ShardedAdapter, "shards", shards)
    stock = fit(as_py_dataset(fit_datasets.Marked()), kind=kind)
    assert_same(fit(accelerate(fit_datasets.Marked(), 2), kind=kind), stock)
    with install():
        assert_same(fit(as_py_dataset(fit_datasets.Marked(), 2, True), kind=kind), stock)


@pytest.mark.usefixtures("keras_316")
def test_loader_works_and_rejects_division_by_keras(monkeypatch):
    def losses():
        with mpqueue.Loader(fit_datasets.Marked(), workers=1) as loader:
            return fit(accelerate(loader))[1]["loss"]

    assert len(losses()) == 3
    monkeypatch.setattr(ShardedAdapter, "shards", (2, 1))
    with pytest.raises(ValueError, match=r"among 2 processes.*shard=.* to the Loader, and auto_shard_dataset=False"):
        losses()


def test_fits_in_order_draw_the_same_numbers_when_keras_is_seeded_again(delivered):
    def draws(seed):
        delivered.batches.clear()
        fit(accelerate(fit_datasets.Drawing(), 2), kind="built", seed=seed, shuffle=False)
        return [tuple(batch[1:].tolist()) for batch in delivered.batches]

    first = draws(1)
    assert draws(1) == first != draws(2)
