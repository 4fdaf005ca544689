"""The model's run of a loader: its place, its changes, its states, and the expected result of each operation.

All ranks are at the same batch. A state is a copy of the place with everything that follows from the past.
"""

import copy
import itertools
from dataclasses import replace

from model.elements import Failed, Impossible
from model.orders import Batch, Change, Index, Stream, batches, excluded_at, of_stream, sought
from model.program import END, plain
from model.windows import Began, Windows

MOST = 90  # batches of an endless epoch that are compared


class IndexRun:
    """A run of a source with an index.

    Attributes:
        epoch, batch: The place: the next batch.
        start: The batch of all ranks at which these ranks began epoch ``begun``.
        own: The latest epoch in which each rank has left out a batch alone, or raised an error: its state belongs to it.
    """

    def __init__(self, setup, seed, world, excluded):
        self.setup, self.seed, self.world = setup, seed, world
        self.epoch = self.batch = self.begun = self.start = 0
        self.changes = [Change(0, 0, world, excluded)] if excluded else []
        self.weights = []  # the changes of weights: (epoch, sample, weights); replaced as a whole
        self.loop = self.last = None
        self.goes = [False] * world  # each rank continues its epoch in the next loop
        self.own = [-1] * world
        self.returned = [()] * world  # the ids of all samples that each rank has returned
        self.known = {}

    # -- The batches

    def end(self, epoch):
        """Return the position of the batch after the last one of a rank; None: endless."""
        turns = Index(self.setup, self.seed, epoch, self.world).turns(self._began(epoch))
        return turns if turns is None else self._first(epoch) + turns

    def _began(self, epoch):
        """Return the batch of all ranks at which the present ranks began an epoch."""
        return self.start if epoch == self.begun else 0

    def of(self, epoch, rank, skips=None):
        """Return the batches of a rank in an epoch, by position."""
        skips = self.setup.skips if skips is None else skips
        key = epoch, rank, skips
        if key not in self.known:
            setup = replace(self.setup, skips=skips)
            found = batches(setup, self.seed, epoch, self.world, rank, self.changes, self._began(epoch))
            self.known[key] = {each.batch: each for each in itertools.islice(found, MOST)}
        return self.known[key]

    def at(self, epoch, batch, rank=0):
        """Return a batch, or None without one: it was left out, belongs to other ranks, or the epoch is over."""
        return self.of(epoch, rank).get(batch)

    # -- Loops

    def begin(self):
        """Begin a loop: the next epoch if the last loop was left early, unless it continues after an error or state."""
        if len(set(self.goes)) > 1:
            raise Impossible  # after an error, a rank continues its epoch, and the others begin the next one
        if not self.goes[0] and self.batch != self._first(self.epoch):
            self.epoch, self.batch = self.epoch + 1, 0
        self.loop = self.epoch

    def _first(self, epoch):
        return -(-self.start // self.world) if epoch == self.begun else 0

    def take(self):
        """Return the next batch of each rank, and move on."""
        if self.loop is None or self.epoch != self.loop:
            self.loop = None
            return [END] * self.world
        left = [
            [position for position in self.of(self.epoch, rank) if position >= self.batch] for rank in range(self.world)
        ]
        positions = {min(of_rank, default=None) for of_rank in left}
        assert len(positions) == 1, f"ranks at different batches {positions}"
        (position,) = positions
        if position is None and len(self.of(self.epoch, 0)) == MOST:
            raise Impossible
        if position is None:
            self.epoch, self.batch, self.loop, self.goes = self.epoch + 1, 0, None, [False] * self.world
            return [END] * self.world
        found = [self.at(self.epoch, position, rank) for rank in range(self.world)]
        self._note(found)
        self.batch = position + 1
        self.settle()
        return [plain(each.value) for each in found]

    def settle(self):
        """Move on to the next epoch if all batches of this one were returned."""
        if self.batch == self.end(self.epoch) and self.batch != self._first(self.epoch):
            self.epoch, self.batch = self.epoch + 1, 0

    def _note(self, found):
        """Note the batches, or errors, that the ranks return."""
        self.goes = [each is not None and isinstance(each.value, Failed) for each in found]
        self.last = None if any(self.goes) or None in found else found
        pairs = zip(self.returned, found, self.goes, strict=True)
        self.returned = [
            before if has_failed or each is None else (*before, *each.ids) for before, each, has_failed in pairs
        ]
        self.own = [self.epoch if failed else each for each, failed in zip(self.own, self.goes, strict=True)]

    def stop(self):
        """Stop: the loop is over."""
        self.loop = None

    # -- States and changes

    @property
    def is_apart(self):
        """Whether the state of a rank may belong to it: it is loaded into the same rank of the same number of ranks."""
        return self.world > 1 and self.epoch in self.own

    def first_undivided(self):
        """Return the position of the first batch that may still get other samples: its window was not started."""
        order = Index(self.setup, self.seed, self.epoch, self.world)
        windows = Windows(order, Began(self._began(self.epoch), self.world))
        return windows.untouched(self.batch - self._first(self.epoch))

    def first_new(self):
        """Return the position of the first batch of all ranks that no rank has returned."""
        return self._began(self.epoch) + (self.batch - self._first(self.epoch)) * self.world

    def state(self):
        """Return a copy."""
        made = copy.copy(self)
        made.changes, made.known = list(self.changes), {}
        return made

    def is_refused(self, world):
        """Return whether ranks that load this state refuse it: they would continue within a window of other ranks."""
        if self.setup.balance is None:
            return False
        done = self.first_new() - self._began(self.epoch)
        # Ranks that have returned whole rounds would continue their order.
        return (world != self.world or done % self.world != 0) and done % (self.setup.balance.rounds * self.world) != 0

    def load(self, state, world, *, is_own=False):
        """Continue at a state, with another number of ranks."""
        vars(self).update(vars(state.state()))
        self.returned = self.returned if world == self.world else [()] * world
        done = self.first_new()
        if world != self.world:
            # One rank continues the order of all ranks, and knows its beginning. It has other windows than they have.
            is_whole = world == 1 and self.setup.balance is None
            self.start, self.batch = (0, done) if is_whole else (done, -(-done // world))
        elif self.epoch != self.begun:
            self.start = 0
        self.begun, self.world, self.loop, self.goes, self.last = self.epoch, world, None, [True] * world, None
        self.own = self.own if is_own else [-1] * world
        end = self.end(self.epoch)
        if end is not None and self.batch >= end and done:
            self.epoch, self.batch = self.epoch + 1, 0
        return self

    def seek(self, epoch, batch):
        """Continue at a place."""
        self.changes = sought(self.changes, epoch, batch, self.world)
        self.epoch, self.batch, self.loop, self.last = epoch, batch, None, None
        self.goes, self.own = [True] * self.world, [-1] * self.world
        if epoch < self.begun:  # the epoch that these ranks began will be whole
            self.begun, self.start = epoch, 0
        self.known = {}

    def exclude(self, ids):
        """Exclude samples from here on."""
        before = excluded_at(self.changes, self.epoch + 1, 0, self.world)
        if not set(ids) <= before:
            self.changes.append(Change(self.epoch, self.batch, self.world, set(ids)))
        self.known = {}

    @property
    def known_from(self):
        """The epoch that other ranks began, and its first batch that they did not return."""
        return self.begun, self._first(self.begun)

    def is_known(self, epoch, batch):
        """Return whether a batch can be explained: other ranks did not return it."""
        return epoch != self.begun or batch >= self._first(epoch)


class ApartRun(IndexRun):
    """A run of ranks that leave out batches alone: after the same step, they are at different places.

    Attributes:
        places: The next batch of each rank.
    """

    @property
    def batch(self):
        return min(self.points)

    @batch.setter
    def batch(self, position):
        self.points = [position] * self.world

    def take(self):
        """Return the next batch of each rank; some end later than others."""
        if self.loop != self.epoch:
            self.loop = None
            return [END] * self.world
        found = [self._next(*point) for point in enumerate(self.points)]
        self.points = [self.end(self.epoch) if each is None else each.batch + 1 for each in found]
        self._note(found)
        self.settle()
        return [END if each is None else plain(each.value) for each in found]

    def _next(self, rank, point):
        known = self.of(self.epoch, rank)
        position = min((position for position in known if position >= point), default=None)
        if position is None and len(known) == MOST:
            raise Impossible
        # Exclusions leave out batches of all ranks, or fill them.
        before = range(point, self.end(self.epoch) if position is None else position)
        if not self.of(self.epoch, rank, skips=False).keys().isdisjoint(before):
            self.own = [*self.own[:rank], self.epoch, *self.own[rank + 1 :]]
        return known.get(position)

    def load(self, state, world, *, is_own=False):
        """Continue at the states: each rank alone where it was, or all ranks at their one place."""
        if not is_own:
            super().load(state, world)
            self.points = [self.batch] * world
            return self
        vars(self).update(vars(state.state()))
        self.loop, self.goes, self.last = None, [True] * world, None
        if self.end(self.epoch) in self.points:
            raise Impossible  # some ranks continue the epoch, and others begin the next one
        return self

    @property
    def is_apart(self):
        """Whether each rank needs its state; also if ranks that were apart excluded samples in this epoch."""
        return super().is_apart or (self.world > 1 and any(at.epoch == self.epoch and at.batch for at in self.changes))

    def first_new(self):
        """Return the position of the batch after all returned batches; None: the ranks do not know that."""
        return super().first_new() if len(set(self.points)) == 1 else None


class StreamRun(IndexRun):
    """A run of a stream: its place is the number of elements of each lane."""

    is_apart = False

    def __init__(self, setup, seed, world, excluded):
        super().__init__(setup, seed, world, excluded)
        self.excluded = set(excluded)
        self.reweighed = []  # all changes of weights
        self.drops = []  # the changes in this epoch: (place of each lane, ids or weights)
        self.stream = self._opened()

    def _opened(self):
        endless = self.setup.epoch_batches is not None
        stream = Stream(self.setup, self.seed, 0 if endless else self.epoch, self.world)
        ids = [change for _, change in self.drops if isinstance(change, set)]
        stream.drop(self.excluded.difference(*ids))
        for weights in self.reweighed[: len(self.reweighed) - len(self.drops) + len(ids)]:
            stream.weigh(weights)
        return stream

    def _reopen(self, point):
        self.stream = self._opened()
        for before, change in self.drops:
            self.stream.advance(before)
            (self.stream.drop if isinstance(change, set) else self.stream.weigh)(change)
        self.stream.advance(point)

    def begin(self):
        super().begin()
        if self.setup.epoch_batches is None and not self.batch and any(self.stream.counts()):
            self._next_epoch()

    def _next_epoch(self):
        if self.setup.epoch_batches is None:
            self.drops = []
            self.stream = self._opened()

    def _first(self, epoch):
        return 0

    def take(self):
        if self.loop is None or self.epoch != self.loop:
            self.loop = None
            return [END] * self.world
        found = self._round()
        if None in found:
            if self.setup.epoch_batches is not None or found != [None] * self.world:
                raise Impossible  # a rank of an endless stream has no elements, or ranks end at different batches
            self.epoch, self.batch, self.loop, self.goes = self.epoch + 1, 0, None, [False] * self.world
            self._next_epoch()
            return [END] * self.world
        made = [Batch(self.epoch, self.batch, *of_stream(each)) for each in found]
        self._note(made)
        self.batch += 1
        if self.batch == self.setup.epoch_batches:
            self.epoch, self.batch = self.epoch + 1, 0
        return [plain(each.value) for each in made]

    def _round(self):
        return [self.stream.take(rank, self.world) for rank in range(self.world)]

    def state(self):
        made = copy.copy(self)
        made.changes, made.drops, made.excluded = list(self.changes), list(self.drops), set(self.excluded)
        made.reweighed = list(self.reweighed)
        made.saved, made.known, made.stream = self.stream.position(), {}, None
        return made

    def load(self, state, world, *, is_own=False):
        """Continue where each lane was; the position of the batch is divided among the ranks, rounded up."""
        vars(self).update({name: value for name, value in vars(state).items() if name != "stream"})
        self.changes, self.drops, self.excluded = list(state.changes), list(state.drops), set(state.excluded)
        self.reweighed = list(state.reweighed)
        self.returned = self.returned if world == self.world else [()] * world
        self.batch = -(-self.batch * self.world // world)
        if self.setup.epoch_batches is not None and self.batch >= self.setup.epoch_batches:
            self.epoch, self.batch = self.epoch + 1, 0
        self.world, self.loop, self.goes, self.last, self.known = world, None, [True] * world, None, {}
        self.own = [-1] * world
        self._reopen(state.saved)
        return self

    def weigh(self, weights):
        """Change the weights of the only mixture: each lane has them from its next pick on."""
        self.stream.weigh(weights)
        self.reweighed.append(weights)
        if any(self.stream.counts()):
            self.drops.append((self.stream.position(), weights))
        self.known = {}

    def exclude(self, ids):
        new = set(ids) - self.excluded
        if new:
            self.changes.append(Change(self.epoch, self.batch, self.world, new))
            self.excluded |= new
            if any(self.stream.counts()):
                self.drops.append((self.stream.position(), new))
            self.stream.drop(new)
        self.known = {}


def run_of(setup, *given):
    """Return the run of a source."""
    kind = StreamRun if not setup.has_index else ApartRun if setup.skips and given[1] > 1 else IndexRun
    return kind(setup, *given)
