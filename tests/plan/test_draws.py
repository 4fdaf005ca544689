"""Batches drawn from a sampler: one ahead, shared among ranks, and drawn again for each epoch."""

import itertools
import random
import struct
import zlib

import numpy as np
import pytest

from mpqueue.plan.cursors import Drawn, Listed
from mpqueue.plan.draws import Draws, SamplerDraw
from mpqueue.plan.ranks import Ranks, Shard
from mpqueue.plan.sampler_fingerprint import fingerprint_of


def order_of(sampler, batch_size=None, *, rank=0, world=1, drop_last=False, are_lists=False):
    return Draws(sampler, batch_size, Ranks(Shard(rank, world), drop_last=drop_last), None, are_lists=are_lists)


def drawn(order, epoch=0, base=0):
    """Return the unit and the samples of each of this rank's batches."""
    return [(unit, listed) for unit, listed, _ in order.draw(epoch, base).take(1000)]


def lists(order, epoch=0, base=0):
    """Return the lists of indices of this rank's batches."""
    return [list(listed.indices) for _, listed in drawn(order, epoch, base)]


class Watched:
    """An iterator that records its calls, and optionally raises instead of ending."""

    def __init__(self, items, error=None):
        self.returned, self._items, self._error = [], list(items), error

    def __iter__(self):
        return self

    def __next__(self):
        if self._items:
            self.returned.append(self._items.pop(0))
            return self.returned[-1]
        if self._error is not None:
            raise self._error
        raise StopIteration


def test_draw_reads_one_batch_ahead():
    watched = Watched([Drawn(0), Drawn(1), Drawn(2)])
    draw = SamplerDraw(watched)
    assert len(watched.returned) == 1
    assert draw.take(1) == [Drawn(0)]
    assert len(watched.returned) == 2


def test_draw_ends_with_its_last_batch():
    draw = SamplerDraw(Watched([Drawn(0), Drawn(1)]))
    assert draw.take(1) == [Drawn(0)]
    assert not draw.has_ended
    assert draw.take(9) == [Drawn(1)]
    assert draw.has_ended
    assert draw.take(9) == []


def test_draw_from_empty_sampler_ends_immediately():
    assert SamplerDraw(iter([])).has_ended


def test_error_is_raised_at_its_place_and_ends_the_draw():
    draw = SamplerDraw(Watched([Drawn(0), Drawn(1)], OSError("gone")))
    assert draw.take(9) == [Drawn(0), Drawn(1)]
    assert not draw.has_ended
    with pytest.raises(OSError, match=r"^gone$"):
        draw.take(9)
    assert draw.has_ended
    assert draw.take(9) == []


def test_indices_are_grouped_and_each_batch_has_its_place():
    assert drawn(order_of([5, 3, 8, 1, 4], 2)) == [
        (0, Listed(0, [5, 3])),
        (1, Listed(2, [8, 1])),
        (2, Listed(4, [4])),
    ]


def test_short_last_batch_is_dropped_with_drop_last():
    assert lists(order_of([5, 3, 8, 1, 4], 2, drop_last=True)) == [[5, 3], [8, 1]]
    assert lists(order_of([5, 3, 8, 1], 2, drop_last=True)) == [[5, 3], [8, 1]]


def test_lists_of_a_batch_sampler_are_batches_of_any_length():
    assert drawn(order_of([(5,), range(3), {"a": 1}], are_lists=True)) == [
        (0, Listed(0, [5])),
        (1, Listed(1, [0, 1, 2])),
        (2, Listed(4, ["a"])),
    ]


def test_indices_without_a_batch_size_are_units_of_the_source():
    assert drawn(order_of([5, np.int64(3), -1])) == [(5, None), (3, None), (-1, None)]


def test_indices_of_other_libraries_become_integers():
    for order in (order_of([np.int32(1), np.uint8(2)], 2), order_of([np.array([1, 2])], are_lists=True)):
        ((indices),) = lists(order)
        assert indices == [1, 2]
        assert [type(index) for index in indices] == [int, int]
    assert [type(unit) for unit, _ in drawn(order_of([np.int32(1)]))] == [int]


def test_keys_that_are_not_integers_are_unchanged():
    assert lists(order_of(["a", (1, 2), None], 2)) == [["a", (1, 2)], [None]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 2}, [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [0, 1]]]),
        ({"batch_size": 2, "drop_last": True}, [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]),
        ({"batch_size": 4}, [[[0, 1, 2, 3], [8, 9, 0, 1]], [[4, 5, 6, 7], [2, 3, 4, 5]]]),
        ({"batch_size": 5}, [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]]),
    ],
    ids=str,
)
def test_ranks_share_batches_and_end_is_filled_up_from_the_beginning(options, expected):
    assert [lists(order_of(range(10), rank=rank, world=2, **options)) for rank in range(2)] == expected


def test_fewer_samples_than_one_batch_per_rank_are_repeated():
    orders = [order_of([7, 8], 2, rank=rank, world=3) for rank in range(3)]
    assert [lists(order) for order in orders] == [[[7, 8]]] * 3
    orders = [order_of([7, 8, 9], 2, rank=rank, world=2) for rank in range(2)]
    assert [lists(order) for order in orders] == [[[7, 8]], [[9, 7]]]


@pytest.mark.parametrize(("drop_last", "expected"), [(False, [[0, 2, 4], [1, 3, 0]]), (True, [[0, 2], [1, 3]])])
def test_batches_of_the_source_are_shared_one_by_one(drop_last, expected):
    orders = [order_of(range(5), rank=rank, world=2, drop_last=drop_last) for rank in range(2)]
    assert [[unit for unit, _ in drawn(order)] for order in orders] == expected
    orders = [
        order_of([[number] for number in range(5)], rank=rank, world=2, drop_last=drop_last, are_lists=True)
        for rank in range(2)
    ]
    assert [[only for (only,) in lists(order)] for order in orders] == expected


def test_place_counts_batches_of_all_ranks():
    assert drawn(order_of(range(8), 2, rank=1, world=2)) == [(1, Listed(2, [2, 3])), (3, Listed(6, [6, 7]))]


@pytest.mark.parametrize(
    ("length", "expected"), [(10, [[2, 3], [6, 7]]), (9, [[2, 3], [6, 7]]), (12, [[2, 3], [6, 7], [10, 11]])]
)
def test_other_ranks_continue_after_taken_batches_and_fill_up_the_rest(length, expected):
    orders = [order_of(range(length), 2, rank=rank, world=2) for rank in range(2)]
    assert lists(orders[0], 3, 1) == expected
    assert len(lists(orders[1], 3, 1)) == len(expected)
    assert lists(orders[0], 4)[0] == [0, 1]


def test_three_ranks_fill_up_the_rest_of_two():
    orders = [order_of(range(5), rank=rank, world=3) for rank in range(3)]
    assert [[unit for unit, _ in drawn(order, 0, 1)] for order in orders] == [[1, 4], [2, 0], [3, 1]]


def test_sampler_is_read_at_most_one_batch_of_each_rank_ahead():
    drawn_so_far = []

    def endless():
        for number in itertools.count():
            drawn_so_far.append(number)
            yield number

    draw = order_of(endless(), 2, rank=0, world=2).draw(0)
    assert len(drawn_so_far) == 4
    draw.take(1)
    assert len(drawn_so_far) == 8


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


def test_sampler_gets_the_epoch():
    sampler = Sampler()
    order = order_of(sampler, 2)
    order.draw(4)
    order.draw(6)
    assert sampler.epochs == [4, 6]


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


class Stateful(Sampler):
    """A sampler with a state, which each epoch changes."""

    def __init__(self):
        super().__init__()
        self.at = 0

    def __iter__(self):
        self.at += 1
        return iter([self.at])

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_states_before_the_present_and_the_previous_epoch_are_kept():
    order = order_of(Stateful(), 1)
    assert order.state_at(0, 0, None) == {"sampler": {"at": 0}}
    for epoch in range(4):
        assert lists(order, epoch) == [[epoch + 1]]
    states = [order.state_at(epoch, 0, None)["sampler"]["at"] for epoch in range(5)]
    assert states == [4, 4, 2, 3, 4]  # for other epochs, the present state is the best guess


def test_repeated_epoch_begins_in_its_original_state():
    order = order_of(Stateful(), 1)
    assert [lists(order, epoch) for epoch in (0, 1, 1, 0)] == [[[1]], [[2]], [[2]], [[1]]]


def test_loaded_state_applies_to_its_epoch_only():
    order = order_of(Stateful(), 1)
    order.draw(0)
    order.load(5, 0, {"sampler": {"at": 70}})
    assert [lists(order, epoch) for epoch in (5, 6)] == [[[71]], [[72]]]
    order.load(6, 0, {"sampler": None})  # the state of a sampler without a state
    assert lists(order, 6) == [[73]]


class Shuffling:
    """Holds a generator."""

    def __init__(self):
        self.generator = random.Random(1)

    def __iter__(self):
        return iter(self.generator.sample(range(9), 9))


def test_state_contains_generator_of_sampler():
    order, other = order_of(Shuffling(), 3), order_of(Shuffling(), 3)
    first, second = lists(order, 0), lists(order, 1)
    state = order.state_at(1, 0, None)
    assert list(state) == ["random"]
    other.load(1, 0, state)
    assert lists(other, 1) == second != first
    assert lists(other, 1) == second


def test_sampler_without_state_adds_nothing():
    order = order_of(Sampler(), 3)
    assert order.state_at(0, 0, None) == {}
    order.draw(0)
    assert order.state_at(0, 0, None) == {}


def test_fingerprint_of_a_batch_covers_earlier_batches_of_all_ranks():
    marks = list(itertools.accumulate([[0], [1], [2], [3]], lambda mark, keys: fingerprint_of(keys, mark), initial=0))
    draw = order_of([[0], [1], [2], [3]], rank=1, world=2, are_lists=True).draw(0)
    assert draw.mark == marks[0]
    assert [drawn.mark for drawn in draw.take(1)] == [marks[0]]
    assert draw.mark == marks[2]
    assert [drawn.mark for drawn in draw.take(1)] == [marks[2]]
    assert draw.mark is None
    assert [drawn.mark for drawn in order_of(range(4)).draw(0).take(4)] == marks[:4]


def test_fingerprint_of_a_batch_covers_batches_before_the_base():
    draw = order_of(range(6), world=2).draw(0, 2)
    assert draw.mark == fingerprint_of([1], fingerprint_of([0], 0))


def test_state_has_a_fingerprint_except_at_the_beginning():
    order = order_of(range(3))
    assert order.state_at(0, 2, 77) == {"drawn": 77}
    assert order.state_at(0, 0, 77) == {}
    assert order.state_at(0, 2, None) == {}


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


def test_reached_place_starts_at_the_first_epoch_or_at_a_state():
    first, both = fingerprint_of([0], 0), fingerprint_of([1], fingerprint_of([0], 0))
    order, other = order_of(range(2)), order_of(range(2))
    drawn(order)
    assert order.state_at(0, 2, None) == {"drawn": both}
    other.load(1, 1, {"drawn": first})
    drawn(other, 1)
    assert other.state_at(1, 2, None) == {"drawn": both}


def test_fingerprint_of_a_loaded_state_is_in_the_next_state_of_that_place():
    order = order_of(range(3))
    order.load(1, 2, {"drawn": 77})
    assert order.state_at(1, 2, None) == {"drawn": 77}
    assert order.state_at(1, 1, None) == order.state_at(0, 2, None) == {}
    order.load(1, 2, {})
    assert order.state_at(1, 2, None) == {}


@pytest.mark.parametrize(
    ("options", "name"), [({}, "sampler"), ({"batch_size": 1}, "sampler"), ({"are_lists": True}, "batch_sampler")]
)
def test_sampler_with_other_indices_than_in_the_state_warns(options, name):
    units = [[unit] for unit in range(4)] if "are_lists" in options else range(4)
    order = order_of(units, **options)
    order.load(3, 2, {"drawn": fingerprint_of([1], fingerprint_of([0], 0))})
    drawn(order, 3)
    order.load(3, 2, {"drawn": fingerprint_of([1], fingerprint_of([5], 0))})
    drawn(order, 2)
    with pytest.warns(
        UserWarning, match=rf"^the {name} \(\w+\) returned different indices for the first 2 .*epoch 3 than"
    ):
        drawn(order, 3)


def test_epoch_is_over_when_no_batch_is_left_for_the_ranks():
    assert order_of(range(5), world=2, drop_last=True).is_over(3, 4)
    assert not order_of(range(5), world=2).is_over(3, 4)
    assert not order_of(range(5), world=2, drop_last=True).is_over(3, 3)


def test_keys_of_any_type_have_the_same_fingerprint_in_all_processes():
    assert fingerprint_of([1, 2], 0) == zlib.crc32(struct.pack("=2q", 1, 2))
    assert fingerprint_of([2], fingerprint_of([1], 0)) == fingerprint_of([1, 2], 0)
    assert fingerprint_of(["a", None], 5) == zlib.crc32(b"['a', None]", 5)
    assert fingerprint_of([1 << 70, "\udcff"], 0) == zlib.crc32(b"[1180591620717411303424, '\\udcff']")
    assert fingerprint_of([(1, object()), [2.5, b"x"]], 0) == zlib.crc32(b"[(1, 'object'), (2.5, b'x')]")
