"""Plans, cursors and progress, without workers: in all cases, each batch of each epoch is dealt and counted once."""

from functools import partial

import numpy as np
import pytest
from helpers.engine_parts import skip_of
from helpers.state_machines import AimingMachine, run_and_require

from mpqueue.engine.progress.progress import Progress
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.orders import SamplesOrder
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.position.cursors import FROM_BEGINNING, EpochCursor, ResumePoint
from mpqueue.plan.sources.sources import Items
from mpqueue.seeding.seeds import permutation

SEED = 7
EPOCH_ARROWS = [
    "deal", "deal none at the barrier", "deal across", "deal of skipped", "the length fails", "take", "take out of order",
    "take fills a gap", "epoch ends", "barrier is lifted", "go on", "go on elsewhere", "a length of 0",
]  # fmt: skip


class EpochsInAnyWay(AimingMachine):
    """A consumer takes dealt work items in or out of order, continues elsewhere, or starts again."""

    def make(self):
        self.lengths = [self.choose(range(1, 7)) for _ in range(self.choose(range(1, 5)))]
        if len(self.lengths) > 2 and self.choose([False, True]):
            self.lengths[1] = 0
        self.ordered, self.shuffle, self.barrier = (self.choose([False, True]) for _ in range(3))
        if 0 in self.lengths:
            self.barrier = False  # an epoch without batches has no last batch to lift the barrier
        self.fails = False
        self.cursor, self.progress = None, Progress(0)
        self.cursor = self.new_cursor()
        self.cursor.start_at(0)
        self.dealt, self.numbers, self.taken = [], [], {}

    def new_cursor(self):
        return EpochCursor(self.length_of, SEED, shuffle=self.shuffle, barrier=self.barrier)

    def length_of(self):
        if self.fails:
            raise OSError("the index file is gone")
        return self.length(self.cursor.epoch) if self.cursor is not None else self.lengths[0]

    def length(self, epoch):
        return self.lengths[epoch % len(self.lengths)]

    def moves(self):
        moves = {f"deal {limit}": (2, partial(self.deal, limit)) for limit in (1, 2, 5)}
        moves["deal while the length fails"] = 2, self.deal_while_the_length_fails
        moves["go on"] = 1, partial(self.all_workers_are_lost, anew=False)
        moves["go on elsewhere"] = 1, partial(self.all_workers_are_lost, anew=True)
        own = [work_item for work_item in self.dealt if work_item.epoch == self.progress.epoch]
        for work_item in self.dealt[:1] if self.ordered else own:
            moves[f"take {work_item.work_id}"] = 12 if self.ordered else 3, partial(self.take, work_item)
        return moves

    def deal(self, limit):
        before = self.cursor.epoch
        work_items = self.cursor.deal(limit)
        assert len(work_items) <= limit
        assert len({work_item.epoch for work_item in work_items}) <= 1
        if self.barrier:
            assert all(work_item.epoch == self.progress.epoch for work_item in work_items)
            assert work_items or self.progress.epoch < self.cursor.epoch
            self.reached["deal none at the barrier"] += not work_items
        else:
            assert work_items
        if work_items:
            self.reached["deal"] += 1
            self.reached["deal across"] += self.cursor.epoch > before
            self.reached["a length of 0"] += any(not self.length(e) for e in range(before, self.cursor.epoch))
            self.reached["deal of skipped"] += bool(skip_of(self.cursor))
            assert {work_item.lane for work_item in work_items} == {-1}
        self.numbers += [work_item.work_id for work_item in work_items]
        self.dealt += work_items

    def deal_while_the_length_fails(self):
        """The error is raised, the length is read again, and no item is left out."""
        self.fails = True
        try:
            self.dealt += (work_items := self.cursor.deal(3))
            self.numbers += [work_item.work_id for work_item in work_items]
        except OSError:
            self.reached["the length fails"] += 1
        self.fails = False

    def take(self, work_item):
        self.dealt.remove(work_item)
        assert work_item.epoch == self.progress.epoch
        position = self.progress.position
        self.progress.position, self.progress.ahead = self.progress.gap_free(work_item.position)
        counted = self.progress.position
        self.taken.setdefault(work_item.epoch, []).append(work_item)
        self.reached["take out of order" if counted == position else "take"] += 1
        self.reached["take fills a gap"] += counted > position + 1
        taken = {one.position for one in self.taken[work_item.epoch]}
        point = self.progress.point()
        assert point == ResumePoint(work_item.epoch, counted, tuple(sorted(one for one in taken if one > counted)))
        assert set(range(counted)) <= taken
        assert counted not in taken
        if self.progress.position == self.length(work_item.epoch):
            self.enter_next(work_item)

    def enter_next(self, work_item):
        self.reached["epoch ends"] += 1
        self.progress.enter(work_item.epoch + 1)
        self.cursor.forget(work_item.epoch)
        while not self.length(self.progress.epoch):
            self.cursor.forget(self.progress.epoch)
            self.progress.enter(self.progress.epoch + 1)
        if self.barrier:
            assert not self.dealt
            self.cursor.open_epoch()
            self.reached["barrier is lifted"] += 1

    def all_workers_are_lost(self, *, anew):
        """Dealt items that were not taken are dealt again, also by another process that has only the place."""
        point = self.progress.point()
        if anew:
            number = self.cursor.next_work_id
            self.cursor, self.progress = self.new_cursor(), Progress(0)
            self.cursor.next_work_id = number
        self.cursor.start_at(point.epoch, point.position, point.ahead)
        self.progress.go_to(point)
        assert self.progress.point() == point
        self.dealt.clear()
        self.reached["go on elsewhere" if anew else "go on"] += 1

    def check(self):
        for epoch, work_items in self.taken.items():
            positions = [work_item.position for work_item in work_items]
            indices = [work_item.source_index for work_item in work_items]
            assert len(positions) == len(set(positions))
            if self.ordered:
                assert positions == list(range(len(positions)))
            if self.shuffle:
                order = permutation(SEED, epoch, self.length(epoch))
                assert indices == [order[position] for position in positions]
            else:
                assert indices == positions
            if epoch < self.progress.epoch:
                assert sorted(indices) == sorted(positions) == list(range(self.length(epoch)))
        assert self.numbers == sorted(set(self.numbers))
        for epoch, length in self.cursor.lengths.items():
            assert epoch >= self.progress.epoch or not self.length(epoch)
            assert length == self.length(epoch)


def test_epochs_in_any_way():
    run_and_require(EpochsInAnyWay, EPOCH_ARROWS, at_least=10, examples=200, steps=60)


def indices(work_items):
    return [work_item.source_index for work_item in work_items]


def schedule_of(length, **options):
    cursor = EpochCursor(lambda: length, SEED, **options)
    cursor.start_at(0)
    return cursor


@pytest.mark.parametrize("order_of", [None, lambda epoch, length, base: range(base.position, 1 << 62)])
def test_an_endless_epoch_has_no_end(order_of):
    cursor = schedule_of(None, shuffle=order_of is None, order_of=order_of)
    assert cursor.is_endless
    assert indices(cursor.deal(3) + cursor.deal(3)) == list(range(6))
    assert (cursor.epoch, cursor.lengths) == (0, {0: None})
    cursor.start_at(0, 1000)
    assert indices(cursor.deal(2)) == [1000, 1001]


def test_custom_order_is_used():
    calls = []

    def order_of(epoch, length, base):
        calls.append((epoch, length, base))
        return np.array([2, 0, -1])

    cursor = schedule_of(3, order_of=order_of, shuffle=True)
    work_items = cursor.deal(9) + cursor.deal(1)
    assert indices(work_items) == [2, 0, -1, 2]
    assert all(type(work_item.source_index) is int for work_item in work_items)
    assert calls == [(0, 3, FROM_BEGINNING), (1, 3, FROM_BEGINNING)]


def test_custom_order_determines_the_number_of_batches():
    orders = {0: [4, 2], 1: None, 2: [0]}
    cursor = schedule_of(3, order_of=lambda epoch, _length, _base: orders[epoch])
    assert [indices(cursor.deal(9)) for _ in range(3)] == [[4, 2], [0, 1, 2], [0]]
    assert cursor.lengths == {0: 2, 1: 3, 2: 1}


def test_epoch_with_skipped_last_positions_ends_before_them():
    """Otherwise its barrier would be lifted too early, and never again."""
    cursor = schedule_of(4, barrier=True)
    cursor.start_at(0, 1, skip=[2, 3])
    assert indices(cursor.deal(1)) == [1]
    cursor.open_epoch()
    assert [(work_item.epoch, work_item.source_index) for work_item in cursor.deal(1)] == [(1, 0)]


# -- Plans without processes


def plan_of(source, seed=3, **options):
    return resolve(source, Options(**options), seed=seed)


def test_frontend_may_pass_its_own_source():
    class Own(Items):
        """Has one batch more than its length."""

        def length(self):
            return super().length() + 1

    assert plan_of(Own([1, 2])).order.length() == 3


def test_an_object_may_provide_its_source_and_the_options_that_remain():
    class Batched(Items):
        def remaining(self, options):
            return Options(batch_size=2)

    class Provides:
        def __mpqueue_source__(self, options, needs):
            calls.append((options.shuffle, needs))
            return Batched([4, 5, 6])

    calls = []
    plan = plan_of(Provides(), shuffle=True)
    assert type(plan.order) is SamplesOrder
    assert (plan.order.length(), plan.options.shuffle, calls) == (2, False, [(True, None)])
