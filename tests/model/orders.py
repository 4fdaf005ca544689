"""The batches of a loader: their order, their places, ranks, and the changes of a run.

A place is (epoch, batch): the number of the batch among the batches of a rank. Samples are excluded from a place on.
"""

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

from model.elements import Failed, Impossible, Joined, Run, Single, tried
from model.functions import stacked
from model.numbers import SampleOrder, call, permutation
from model.stages import Batch as BatchStage
from model.stages import Blocks, Lane
from model.windows import Began, Windows


@dataclass(frozen=True)
class Setup:
    """A source and the options of `mpqueue.Loader` that decide its batches.

    Attributes:
        source: An object with ``__getitem__`` and ``__len__``; or the last `model.stages.Stage` of a dataset.
        is_dataset: It is a stage.
    """

    source: Any
    is_dataset: bool = True
    batch_size: int | None = None
    drop_last: bool = False
    shuffle: bool = False
    collate: Any = None
    sampler: list[Any] | None = None
    batch_sampler: list[Any] | None = None
    lanes: int = 1
    epoch_batches: int | None = None
    skips: bool = False
    balance: Any = None

    @property
    def has_index(self):
        """Each batch can be computed by its number."""
        return not self.is_dataset or self.source.is_indexed


class Batch(NamedTuple):
    """A batch at its place: the ids of its samples, its value or its error, and the ids of samples that were skipped.

    With a balance: its costs, by the names that `mpqueue.BatchInfo` has for them.
    """

    epoch: int
    batch: int
    ids: list[Any]
    value: Any
    skipped: list[Any] = []
    costs: dict[str, float] = {}


class Change(NamedTuple):
    """A call of ``exclude`` at a place of ``world`` ranks; its value is a set of ids."""

    epoch: int
    batch: int
    world: int
    value: Any

    def on(self, world):
        """With another number of ranks, a place is the place of the batch that these ranks return first, rounded up."""
        return self.epoch, -(-self.batch * self.world // world)


def sought(changes, epoch, batch, world):
    """A seek to a place before an exclusion moves the exclusion there: no later batch has its samples."""
    return [Change(epoch, batch, world, each.value) if each.on(world) > (epoch, batch) else each for each in changes]


def excluded_at(changes, epoch, batch, world):
    """Return the samples that are excluded at a place."""
    return {each for change in changes if change.on(world) <= (epoch, batch) for each in change.value}


def batches(setup, seed, epoch, world=1, rank=0, changes=(), start=0):
    """Yield the batches of a rank in an epoch, which began at batch ``start`` of all ranks."""
    if not setup.has_index:
        return Stream(setup, seed, epoch, world).batches(rank, changes, start)
    return Index(setup, seed, epoch, world, Began(start, world)).batches(rank, changes)


class Index:
    """The batches of an epoch of a source with an index. They follow from (seed, epoch, number of the batch).

    Rank r of n returns every n-th batch, from batch r on. All ranks return the same number: the end is filled from the
    beginning of the order, or dropped.
    """

    def __init__(self, setup, seed, epoch, world, began=None):
        self._setup, self._world, self._run = setup, world, Run(seed, epoch)
        self._began, self.balance, self.key = began or Began(world=world), setup.balance, (0, epoch)
        self._joins = setup.batch_size is not None or setup.batch_sampler is not None
        self._stage = setup.source if setup.is_dataset else None
        self._size, self._drops, self._collate = setup.batch_size, setup.drop_last, setup.collate or stacked
        self._key, self._source = (seed, epoch), getattr(setup.source, "in_epoch", lambda _: setup.source)(epoch)
        if isinstance(self._stage, BatchStage) and setup.sampler is None and setup.batch_sampler is None:
            last, self._joins = self._stage, True  # the loader joins the samples itself
            self._size, self._drops, self._collate = last.size, last.drop_last or setup.drop_last, last.collate
            self._stage, self._key = last.inputs[0], last.key(self._run)
        self._sampler = getattr(setup.sampler, "in_epoch", lambda _: setup.sampler)(epoch)
        self._fills = world > 1 and not self._drops
        self._windows = None if self.balance is None else Windows(self, self._began)

    def length(self):
        """Return the number of samples of the epoch, or of items that are batches; None: endless."""
        setup = self._setup
        if setup.batch_sampler is not None or setup.sampler is not None:
            return len(setup.batch_sampler or setup.sampler)
        return len(self._source) if self._stage is None else self._stage.length(self._run)

    def total(self):
        """Return the number of batches over all ranks, before the end is filled."""
        length, size = self.length(), (self._joins and self._size) or 1
        return length and (length // size if self._drops else -(-length // size))

    def turns(self, start):
        """Return the number of batches of each rank from batch ``start`` of all ranks on; None: endless."""
        total = self.total()
        left = total if total is None else max(0, total - start)
        return left if left is None else left // self._world if self._drops else -(-left // self._world)

    def is_whole(self, number):
        """Return whether a batch is in the order as a whole, not short and not filled up."""
        length = self.length()
        return length is None or (number + 1) * self._size <= length

    def samples(self, number):
        """Return the (place, index) of each sample of a batch, by its number over all ranks."""
        if self.balance is None:
            return self.in_order(number)
        return [(position, self._index(position)) for position in self._windows.positions(number)]

    def plain(self, number):
        """Return the places of the samples of a batch before any division."""
        return [position for position, _ in self.in_order(number)]

    def in_order(self, number):
        """Return the same as `samples`, without a division."""
        setup, length, (seed, epoch, *_) = self._setup, self.length(), self._run
        if setup.batch_sampler is not None:
            lists = [setup.batch_sampler[at % length] for at in range(number + 1)]
            return list(enumerate(lists[-1], sum(map(len, lists[:-1]))))
        if not self._joins:
            position = number if length is None else number % length
            if setup.shuffle and setup.sampler is None:
                position = int(permutation(seed, epoch, length)[position])
            return [(number, position if setup.sampler is None else self._sampler[position])]
        first = number * self._size
        last = first + (self._size if self._fills or length is None else min(self._size, length - first))
        return [(position, self._index(position)) for position in range(first, last)]

    def _index(self, position):
        """Return the request to the source at a place of the order of samples."""
        setup, length, (seed, epoch, *_) = self._setup, self.length(), self._run
        if setup.sampler is not None:
            return self._sampler[position % length]
        if setup.shuffle and self._stage is None:
            return int(SampleOrder(seed, shuffle=True).at(epoch, length, [position % length])[0])
        return position if length is None else position % length

    def cost(self, position, function):
        """Return the cost of a sample: a function of its id, or of all ids of an element that has several."""
        return self._cost_of(self._index(position), function)

    def _cost_of(self, index, function):
        ids = self.element(index, index).ids()
        return function(ids[0] if len(ids) == 1 else tuple(ids))

    def element(self, position, index):
        """Return a sample. Its random numbers follow from its place in the order; of a dataset, from its index."""
        if self._stage is not None:
            return self._stage.element(index, self._run)
        at = position if self._joins else index
        return Single(index, [index], lambda: call((*self._run[:2], at), self._source.__getitem__, index))

    def batch(self, samples, excluded, first):
        """Return a batch without excluded samples, or None. Its own random numbers follow from its first place."""
        parts = [self.element(*sample).without(excluded) for sample in samples]
        parts = [part for part in parts if part is not None]
        if not self._joins or not parts:
            return parts[0] if parts else None
        if isinstance(self._stage, Blocks) and self._stage.draws():
            found = self._stage.read([part.token for part in parts], self._run)
            for part in parts:
                part.use(found[part.token])
        if self._stage is None and hasattr(self._source, "__getitems__"):
            return AtOnce(parts, self._collate, self._key, token=~first).of(self._source)
        return Joined(parts, self._collate, self._key, token=~first)

    def edited(self, number, rounds, rank, excluded):
        """Return the samples of a batch without excluded ones, and its first place; no samples if it is left out.

        A *round* has one batch of each rank. If all of them are empty, or any with ``drop_last``, all ranks
        leave it out. Any other empty batch is filled with batch r of the epoch for rank r, or the next one that has
        samples.
        """
        samples = self.samples(number)
        own, first_position = self._kept(samples, excluded), samples[0][0]
        if self._world == 1 or (own and not self._drops):
            return own, first_position
        of_ranks = [self.samples(each) for each in rounds]
        empty = [not self._kept(each, excluded) for each in of_ranks]
        if any(empty) if self._drops else all(empty):
            return [], first_position
        first = [self.in_order(each) for each in range(self._world)]
        for other in [*first[rank:], *first[:rank], *of_ranks[rank:], *of_ranks[:rank]] if not own else ():
            kept = self._kept(other, excluded)
            if kept:
                positions = [position for position, _ in samples] if self.balance else itertools.count(first_position)
                moved = [(position, index) for position, (_, index) in zip(positions, kept, strict=False)]
                return moved if self._joins else kept, first_position
        return own, first_position

    def _kept(self, samples, excluded):
        return [each for each in samples if self.element(*each).without(excluded) is not None]

    def batches(self, rank, changes):
        """Yield the batches of a rank. A batch without samples is left out, and keeps its number."""
        (start, world), costs = self._began, self._costs(changes)
        turns, left = self.turns(start), itertools.count(start)
        before = -(-start // world)
        for turn in itertools.count() if turns is None else range(turns):
            rounds = list(itertools.islice(left, world))
            position = self._run.epoch, before + turn
            excluded = excluded_at(changes, *position, world)
            samples, first = self.edited(rounds[rank], rounds, rank, excluded)
            batch = self.batch(samples, excluded, first) if samples else None
            if batch is not None:
                skipped = []
                left_over = tried(batch, skipped if self._setup.skips else None)
                if left_over is not None:
                    is_error = isinstance(left_over, Failed)
                    ids = batch.ids() if is_error else left_over.ids()
                    value = left_over if is_error else left_over.value()
                    yield Batch(*position, ids, value, skipped, costs(turn, rank))

    def _costs(self, changes):
        """Return a function that returns the costs of a batch and of its step, of their remaining samples."""
        if self.balance is None:
            return lambda turn, rank: {}
        start, world = self._began
        turns, left, rounds, sums = self.turns(start), itertools.count(start), [], {}
        named = {name: each for name, each in zip(("cost", "tokens"), self.balance[:2], strict=True) if each}

        def sums_of(turn):
            """Return the sum of each rank in a round, by name."""
            if turn not in sums:
                while len(rounds) <= turn:
                    rounds.append(list(itertools.islice(left, world)))
                excluded = excluded_at(changes, self._run.epoch, -(-start // world) + turn, world)
                found = [self.edited(each, rounds[turn], at, excluded)[0] for at, each in enumerate(rounds[turn])]
                sums[turn] = {
                    name: [sum(self._cost_of(index, each) for _, index in samples) for samples in found]
                    for name, each in named.items()
                }
            return sums[turn]

        def costs(turn, rank):
            first = turn - turn % self.balance.accumulate
            last = first + self.balance.accumulate if turns is None else min(first + self.balance.accumulate, turns)
            found = {}
            for name in named:
                found[name] = float(sums_of(turn)[name][rank])
                found[f"step_{name}"] = float(sum(sum(sums_of(each)[name]) for each in range(first, last)))
            return found

        return costs


class AtOnce(Joined):
    """A batch of a source that gets one request for all samples; the call has the random numbers of the batch."""

    def of(self, source):
        self._source = source
        return self

    def compute(self):
        collate, key, _, token = self._rest
        samples = call((*key, token), self._source.__getitems__, [part.token for part in self.parts])
        return call((*key, token), collate, samples)


class Stream:
    """The elements of the lanes of a stream. The lane with the fewest elements is next; rank r of n has every n-th lane.

    A lane of a stream with ``epoch_batches`` is endless: it continues with its next epoch, unless one was empty.
    """

    def __init__(self, setup, seed, epoch, world=1):
        self._setup, self._epoch, self._world = setup, epoch, world
        is_endless = setup.epoch_batches is not None
        self._position = 0
        self.lanes = [
            Epochs(
                setup.source,
                Run(seed, 0 if is_endless else epoch, [] if setup.skips else None, lane, setup.lanes),
                is_endless,
            )
            for lane in range(setup.lanes)
        ]

    def counts(self):
        """Return the number of elements of each lane, which are the state of a stream."""
        return [lane.count for lane in self.lanes]

    def position(self):
        """Return the number of elements of each lane, and whether it is at the end."""
        return [(lane.count, lane.has_ended) for lane in self.lanes]

    def advance(self, position):
        """Read each lane up to a place. A lane that ended there remains so, whatever changes there."""
        for lane, (count, has_ended) in zip(self.lanes, position, strict=True):
            while lane.count < count:
                lane.next()
            if has_ended:
                lane.next()

    def drop(self, excluded):
        """Exclude samples from here on, in buffers and unfinished batches, too."""
        for lane in self.lanes:
            lane.drop(excluded)

    def weigh(self, weights):
        """Change the weights of the only mixture from here on."""
        for lane in self.lanes:
            lane.weigh(weights)

    def take(self, rank=0, world=None):
        """Return the next element of a rank, an error in place of one, or None at the end."""
        own = self.lanes[rank :: world or self._world]
        while live := [lane for lane in own if not lane.has_ended]:
            lane = min(live, key=lambda lane: lane.count)
            one = lane.next()
            if one is not None:
                return one
        return None

    def batches(self, rank, changes, start):
        """Yield the batches of a rank from the beginning of the epoch."""
        each = self._setup.epoch_batches
        if each is None and (excluded := excluded_at(changes, self._epoch, -1, self._world)):
            self.drop(excluded)
        for number in itertools.count(start):
            epoch, batch = (self._epoch, number) if each is None else divmod(number, each)
            for change in changes:
                if change.on(self._world) == (epoch, batch):
                    self.drop(change.value)
            if each is not None and epoch > self._epoch:
                return
            one = self.take(rank)
            if one is None:
                return
            if epoch == self._epoch:
                yield Batch(epoch, batch, *of_stream(one))


def of_stream(one):
    """Return the ids and the value of an element of a stream; an error has no ids."""
    return ([], one) if isinstance(one, Failed) else (one.ids(), one.value())


class Epochs:
    """A lane, with its number of elements. Samples that are left out take no number."""

    def __init__(self, stage, run, is_endless):
        self._stage, self.run, self._is_endless = stage, run, is_endless
        self.count, self.has_ended, self._has_given, self._excluded = 0, False, False, set()
        self._gate, self._weights, self._has_failed = set(), [], False
        self.lane = self._opened()

    def _opened(self):
        """Open the lane of an epoch. Its sources leave out the samples that are excluded before it."""
        rooted, self._gate = frozenset(self._excluded), set(self._excluded)
        return Lane(self._stage, self.run, rooted, lambda: self._gate, self._weights)

    def next(self):
        while not self.has_ended:
            one = next(iter(self.lane), None)
            if one is not None and not isinstance(one, Failed) and not self.lane.kept([one]):
                continue
            self._has_failed = isinstance(one, Failed)
            if one is not None:
                self.count += 1
                self._has_given |= not isinstance(one, Failed)
                return one
            self.has_ended, self._has_given = not (self._is_endless and self._has_given), False
            if not self.has_ended:
                self.run = self.run.of(self.run.epoch + 1)
                self.lane = self._opened()
        return None

    def weigh(self, weights):
        if self._has_failed:
            raise Impossible  # the elements after an error in its block are picked, and how large it was is not promised
        self._weights.append(weights)

    def drop(self, excluded):
        self._excluded |= excluded
        self._gate |= excluded
        if not self.count:
            self.lane = self._opened()
