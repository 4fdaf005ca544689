"""Batches drawn from a sampler while they are dealt: one ahead, shared among ranks, and drawn again for each epoch."""

import json
import random
import struct
import zlib

import numpy as np
import pytest

from mpqueue.engine.progress.progress import Progress
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.position.cursors import FROM_BEGINNING, Drawn, ResumePoint
from mpqueue.plan.position.drawn_cursor import DrawnCursor
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


LISTS, INDICES = (
    r"^a batch_sampler must return lists of indices, got ",
    r"^without batch_size, .* the indices of batches",
)


@pytest.mark.parametrize(
    ("batch", "are_lists", "error", "text"),
    [
        ([], True, ValueError, r"^a batch_sampler must return lists of at least one index"),
        *((batch, True, TypeError, LISTS) for batch in (5, "ab", b"ab", None)),
        *((index, False, TypeError, INDICES) for index in (True, "a", [1], None)),
    ],
)
def test_error_of_the_first_batch_is_raised_when_it_is_taken(batch, are_lists, error, text):
    draw = order_of([batch], are_lists=are_lists).draw(0)
    with pytest.raises(error, match=text):
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


# -- Orders that are drawn while they are dealt


class Draw:
    """Returns indices. An error among them is raised at its place, and ends the draw."""

    def __init__(self, indices, *, is_once=False):
        self.left, self.is_once = list(indices), is_once
        self.limits = []

    def take(self, limit):
        self.limits.append(limit)
        taken = []
        while self.left and len(taken) < limit:
            if isinstance(self.left[0], Exception):
                if taken:
                    break
                error, self.left = self.left[0], []
                raise error
            taken.append(Drawn(index := self.left.pop(0), None, index + 1000))
        return taken

    @property
    def has_ended(self):
        return not self.left

    @property
    def mark(self):
        return self.left[0] + 1000 if self.left else None


class Epochs:
    """Begins each epoch with its own indices; the last ones are used for all later epochs."""

    def __init__(self, *epochs):
        self._epochs, self.begun, self.draws = list(epochs), [], []

    def __call__(self, epoch, _base):
        self.begun.append(epoch)
        indices = self._epochs.pop(0) if len(self._epochs) > 1 else self._epochs[0]
        if isinstance(indices, Exception):
            raise indices
        self.draws.append(Draw(indices))
        return self.draws[-1]


def schedule_of(*epochs, **options):
    cursor = DrawnCursor(sampler := Epochs(*epochs), **options)
    return cursor, sampler


def points(work_items):
    return [(work_item.epoch, work_item.position, work_item.source_index) for work_item in work_items]


def test_undelivered_batches_are_dealt_again_without_drawing():
    cursor, sampler = schedule_of(range(6), [70, 71, 72])
    assert points(cursor.deal(4)) == [(0, number, number) for number in range(4)]
    cursor.start_at(0, 2)
    assert points(cursor.deal(9)) == [(0, 2, 2), (0, 3, 3)]
    assert points(cursor.deal(9)) == [(0, 4, 4), (0, 5, 5)]
    cursor.start_at(0, 6)
    cursor.start_at(0, 1)
    assert cursor.lengths == {0: 6}
    assert points(cursor.deal(2)) == [(0, 1, 1), (0, 2, 2)]
    assert sampler.begun == [0]


def test_batches_of_an_earlier_epoch_are_not_dealt_later():
    cursor, sampler = schedule_of([7, 8, 9], [4, 5, 6])
    cursor.deal(9)
    assert points(cursor.deal(1)) == [(1, 0, 4)]
    assert cursor.mark_at(1, 2) is None
    cursor.start_at(1, 2)
    assert points(cursor.deal(9)) == [(1, 2, 6)]
    assert sampler.begun == [0, 1]


def test_delivered_batches_are_dropped():
    cursor, sampler = schedule_of(range(6), [70, 71, 72, 73, 74, 75])
    cursor.follow(consumer := Progress(0))
    cursor.deal(3)
    consumer.go_to(ResumePoint(0, 2))
    cursor.deal(1)
    cursor.start_at(0, 2)
    assert points(cursor.deal(9)) == [(0, 2, 2), (0, 3, 3)]
    cursor.start_at(0, 1)  # as after loading a state
    assert points(cursor.deal(2)) == [(0, 1, 71), (0, 2, 72)]
    assert sampler.begun == [0, 0]


def test_consumer_in_another_epoch_drops_no_batches():
    cursor, sampler = schedule_of(range(6))
    cursor.follow(consumer := Progress(0))
    consumer.go_to(ResumePoint(1, 4))
    cursor.deal(3)
    cursor.start_at(0)
    assert points(cursor.deal(9)) == [(0, 0, 0), (0, 1, 1), (0, 2, 2)]
    assert sampler.begun == [0]


def test_draw_that_cannot_be_repeated_continues_after_its_error():
    error = OSError("gone")
    draw = Draw([7, 8, error], is_once=True)
    cursor = DrawnCursor(lambda _epoch, _base: draw)
    assert points(cursor.deal(9)) == [(0, 0, 7), (0, 1, 8)]
    with pytest.raises(OSError, match=r"^gone$"):
        cursor.deal(9)
    draw.left = [9]
    assert points(cursor.deal(9)) == [(0, 2, 9)]


def test_exhausted_epoch_deals_no_items():
    class Open(Draw):
        has_ended = False

    cursor = DrawnCursor(lambda _epoch, _base: Open([7]))
    assert points(cursor.deal(9)) == [(0, 0, 7)]
    assert cursor.deal(9) == []
    assert cursor.lengths == {0: None}


def test_interrupted_order_is_drawn_again():
    cursor, sampler = schedule_of([7, 8, OSError("gone")], [7, 8, 9])
    cursor.deal(2)
    with pytest.raises(OSError, match=r"^gone$"):
        cursor.deal(1)
    cursor.start_at(0, 1)
    assert points(cursor.deal(9)) == [(0, 1, 8), (0, 2, 9)]
    assert sampler.begun == [0, 0]


def test_mark_covers_batches_drawn_before_a_position():
    cursor, _ = schedule_of(range(4))
    assert cursor.mark_at(0, 0) is None
    cursor.start_at(0, 1)
    assert cursor.mark_at(0, 1) == 1001
    cursor.deal(2)
    marks = [cursor.mark_at(0, position) for position in range(6)]
    assert marks == [None, 1001, 1002, 1003, None, None]
    assert cursor.mark_at(1, 2) is None
    cursor.deal(1)
    assert cursor.mark_at(0, 4) is None  # the end, which the sampler has not reported
