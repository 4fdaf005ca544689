"""Orders that are drawn while they are dealt: one batch ahead, resumed after an error, ended when the end is known."""

import pytest

from mpqueue.engine.progress.progress import Progress
from mpqueue.plan.position.cursors import Drawn, ResumePoint
from mpqueue.plan.position.drawn_cursor import DrawnCursor


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


class Sampler:
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
    cursor = DrawnCursor(sampler := Sampler(*epochs), **options)
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
