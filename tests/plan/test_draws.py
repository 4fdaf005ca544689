"""Batches drawn from a sampler: one ahead, shared among ranks, and drawn again for each epoch."""

import json
import random
import struct
import zlib

import numpy as np
import pytest

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.position.cursors import FROM_BEGINNING
from mpqueue.plan.position.draws import Draws
from mpqueue.plan.position.ranks import Ranks, Shard
from mpqueue.plan.position.sampler_fingerprint import fingerprint_of


def order_of(sampler, batch_size=None, *, rank=0, world=1, drop_last=False, are_lists=False):
    return Draws(sampler, batch_size, Ranks(Shard(rank, world), drop_last=drop_last), None, are_lists=are_lists)


def drawn(order, epoch=0, base=FROM_BEGINNING):
    """Return the unit and the samples of each of this rank's batches."""
    return [drawn[:2] for drawn in order.draw(epoch, base).take(1000)]


def lists(order, epoch=0, base=FROM_BEGINNING):
    """Return the lists of indices of this rank's batches."""
    return [list(listed.indices) for _, listed in drawn(order, epoch, base)]


def test_lists_of_a_batch_sampler_are_batches_of_any_length():
    assert drawn(order_of([(5,), range(3), {"a": 1}], are_lists=True)) == [
        (0, BatchSamples(0, [5])),
        (1, BatchSamples(1, [0, 1, 2])),
        (2, BatchSamples(4, ["a"])),
    ]


def test_indices_of_other_libraries_become_integers():
    for order in (order_of([np.int32(1), np.uint8(2)], 2), order_of([np.array([1, 2])], are_lists=True)):
        ((indices),) = lists(order)
        assert indices == [1, 2]
        assert [type(index) for index in indices] == [int, int]
    assert [type(index) for index, _ in drawn(order_of([np.int32(1)]))] == [int]


def test_keys_that_are_not_integers_are_unchanged():
    assert lists(order_of(["a", (1, 2), None], 2)) == [["a", (1, 2)], [None]]


class Sampler:
    """Ascending indices; records the epochs that it gets."""

    def __init__(self, length=3):
        self.length, self.epochs = length, []

    def __iter__(self):
        return iter(range(self.length))

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


class Wrapper:
    """A batch sampler that wraps a sampler."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        return iter([list(self.sampler)])


class WithSetEpoch(Wrapper):
    """A wrapper with its own `set_epoch`."""

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_inner_sampler_gets_the_epoch_if_its_wrapper_has_no_set_epoch():
    order_of(inner := Wrapper(Sampler()), are_lists=True).draw(4)
    assert inner.sampler.epochs == [4]
    order_of(outer := WithSetEpoch(Sampler()), are_lists=True).draw(4)
    assert (outer.epoch, outer.sampler.epochs) == (4, [])


def test_set_epoch_that_is_not_callable_is_ignored():
    sampler = Sampler()
    sampler.set_epoch = 5
    assert lists(order_of(sampler, 3)) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "name"), [({"batch_size": 2}, "sampler"), ({}, "sampler"), ({"are_lists": True}, "batch_sampler")]
)
def test_empty_sampler_is_an_error(options, name):
    with pytest.raises(ValueError, match=rf"^the {name} \(Sampler\) returned no indices for epoch 2: "):
        order_of(Sampler(0), **options).draw(2)


def test_error_of_the_first_batch_is_raised_when_it_is_taken():
    draw = order_of([[]], are_lists=True).draw(0)
    with pytest.raises(ValueError, match=r"^a batch_sampler must return lists of at least one index"):
        draw.take(1)


@pytest.mark.parametrize("batch", [5, "ab", b"ab", None])
def test_batch_sampler_must_return_lists(batch):
    draw = order_of([batch], are_lists=True).draw(0)
    with pytest.raises(TypeError, match=r"^a batch_sampler must return lists of indices, got "):
        draw.take(1)


@pytest.mark.parametrize("index", [True, "a", [1], None])
def test_sampler_without_batch_size_must_return_integers(index):
    draw = order_of([index]).draw(0)
    with pytest.raises(TypeError, match=r"^without batch_size, a sampler must return the indices of batches"):
        draw.take(1)


def test_fingerprint_of_the_reached_place_is_kept():
    order = order_of(range(3))
    drawn(order, 1)
    mark = fingerprint_of([2], fingerprint_of([1], fingerprint_of([0], 0)))
    assert order.state_at(1, 3, None) == {"drawn": mark}
    assert order.state_at(1, 2, None) == order.state_at(2, 3, None) == {}
    order.draw(1).take(1)  # again, but less far
    assert order.state_at(1, 3, None) == {"drawn": mark}
    order.draw(2).take(1)
    assert order.state_at(1, 3, None) == {}


class Shuffled:
    """An order that is shuffled by a generator in an attribute of any name."""

    def __init__(self, name, generator):
        vars(self)[name], self._name = generator, name

    def __iter__(self):
        order = list(range(12))
        getattr(self, self._name).shuffle(order)
        return iter(order)


@pytest.mark.sample(5)
@pytest.mark.parametrize("name", ["random", "numpy", "torch", "rng", "sampler", "kept", "global", "kind", "state"])
@pytest.mark.parametrize("make", [random.Random, np.random.default_rng])
def test_question_finds_the_order_and_keeps_the_generator_for_any_attribute(name, make):
    ranks = Ranks(Shard(0, 1), drop_last=False)
    plain, asked = (order_of(Shuffled(name, make(7)), 3) for _ in range(2))
    for epoch in range(3):
        expected = lists(plain, epoch)
        assert lists(asked, epoch) == expected
        state = json.loads(json.dumps(asked.state_at(epoch, 2, None)))
        found = [asked.batch_at(epoch, FROM_BEGINNING, position, ranks).listed.indices for position in range(4)]
        assert found == expected
        resumed = order_of(Shuffled(name, make(1)), 3)
        resumed.load(epoch, 2, state)
        assert lists(resumed, epoch) == expected


def test_keys_of_any_type_have_the_same_fingerprint_in_all_processes():
    assert fingerprint_of([1, 2], 0) == zlib.crc32(struct.pack("=2q", 1, 2))
    assert fingerprint_of([2], fingerprint_of([1], 0)) == fingerprint_of([1, 2], 0)
    assert fingerprint_of(["a", None], 5) == zlib.crc32(b"['a', None]", 5)
    assert fingerprint_of([1 << 70, "\udcff"], 0) == zlib.crc32(b"[1180591620717411303424, '\\udcff']")
    assert fingerprint_of([(1, object()), [2.5, b"x"]], 0) == zlib.crc32(b"[(1, 'object'), (2.5, b'x')]")
