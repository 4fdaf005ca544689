"""The model's run of a loader of torch: its passes, its place in them, and its states."""

import copy
import itertools
from dataclasses import replace

import torch
from model import torch_pass
from model.elements import Failed
from model.program import END
from model.torch_pass import Generators, Numbers, Raised


class TorchRun:
    """The passes of a loader, and its place in them.

    Attributes:
        workers, streams: The present number of workers, and of streams of an iterable-style dataset.
        main, own, held: The generators of the program, of the loader, and of the sampler.
        before: The states of ``own`` and ``held`` before the sampler of this pass draws.
        pass_index, position, epoch: The pass, the place of the next batch, and the epoch of the sampler.
        base_seed, seed_epoch: The numbers of workers depend on these.
        count, is_pending: How often the dataset was iterated before; it will be iterated with the next batch.
        known: The keys and the value of each returned batch by place.
    """

    world, drawn_by_main = 1, 0

    def __init__(self, setup):
        self.setup, self.workers, self.main = setup, setup.num_workers, Generators(*[setup.seed] * 3)
        own = setup.generator_seed
        self.own = self.main.torch if own is None else torch.Generator().manual_seed(own)
        self.held, self.excluded, self.known, self.groups = torch_pass.held_by(setup), (), {}, []
        self.pass_index, self.position, self.count, self.streams, self.epoch = -1, 0, -1, 0, 0
        self.base_seed = self.before = self.drawn = self.last = None
        self.is_over, self.is_resumed, self.is_pending = True, False, False

    def begin(self):
        """Begin a pass, or continue the resumed one."""
        if self.is_resumed:
            self.is_resumed = False
            return
        self.pass_index, self.position, self.is_over, self.known, self.groups = self.pass_index + 1, 0, False, {}, []
        self.drawn_by_main = 0
        if self.setup.persistent and self.workers and self.base_seed is not None:
            self.seed_epoch += 1
        else:
            self.base_seed, self.seed_epoch = torch_pass.seed_from(self.own), 0
        self.streams = self.streams or max(1, self.workers)
        self.is_pending = self._draws_here()
        if self.workers and not self.setup.persistent:
            self.count = 0
        elif not self.is_pending:
            self.count += 1
        self.before = self.own.get_state(), copy.deepcopy(self.held)
        self.drawn = self.last = None
        self._draw(0)

    def _draws_here(self):
        return not self.workers and (self.streams == 1 or not self.setup.is_iterable)

    def _setup(self):
        streams = self.streams if self.setup.is_iterable else self.workers
        return replace(self.setup, num_workers=0 if self._draws_here() else streams, sets_epoch=True)

    def _numbers(self):
        return Numbers(self.main, [], self.base_seed, self.seed_epoch)

    def _draw(self, count):
        """Make the sampler draw ``count`` batches; with workers, it is ahead."""
        if not self.setup.is_iterable:
            if self.drawn is None:
                self.drawn = torch_pass.groups_of(self._setup(), self.epoch, self.own, self.main.torch, self.held)
            most = max(0, count + 2 * self.workers - len(self.groups))
            self.groups += itertools.islice(self.drawn, None if self.setup.sampler[0] == "distributed" else most)

    def take(self):
        """Return the next batch, and move on."""
        found = None if self.is_over else self._next()
        self.is_over = found is None
        return [END if found is None else found]

    def _next(self):
        self.count += self.is_pending
        self.is_pending = False
        if self.setup.is_iterable:
            if self.drawn is None:
                self.drawn = torch_pass.iterable_pass(self._setup(), self.count, self._numbers(), self.position)
            worker, index, batch = next(self.drawn, (0, 0, None))
            if batch is None:
                return None
            size = self.setup.batch_size or 1
            keys = [(worker, index * size + at) for at in range(0 if isinstance(batch, Raised) else len(batch))]
        while not self.setup.is_iterable:
            self._draw(self.position + (not self.workers))
            if self.position >= len(self.groups):
                return None
            keys, batch = self.at(self.position)
            if keys:
                break
            self.position += 1
        value = self._plain(batch)
        self.known[self.position] = keys, value
        if not isinstance(batch, Raised):
            self.last = self.position, keys
        self.position += 1
        self._draw(self.position)
        return value

    def at(self, position):
        """Return the keys and the batch at a place that was not returned; without workers, it draws its numbers."""
        keys = [key for _, key in torch_pass.kept(self.setup, self.groups, position, self.excluded)]
        try:
            return keys, torch_pass.map_batch(self._setup(), self.groups, position, self.excluded, self._numbers())
        except Raised as error:
            return keys, error

    def _plain(self, batch):
        if isinstance(batch, Raised):
            return Failed(self.setup.error, str(batch))
        is_batched = self.setup.batch_size is not None or self.setup.sampler[0] == "batches"
        return [list(column) for column in zip(*batch, strict=True)] if is_batched else list(batch[0])

    def computed(self, position):
        """Return the keys and the value at a place."""
        if position in self.known:
            return self.known[position]
        keys, batch = self.at(position)
        return keys, self._plain(batch) if keys else None

    def state(self):
        """Return a copy."""
        drawn, self.drawn = self.drawn, None
        made = copy.deepcopy(self)
        self.drawn = drawn
        return made

    def load(self, state, workers):
        """A state resumes with exactly the batches after the returned ones, and then with the later passes.

        You may resume with another number of workers from 1 on. Your program restores the generators of torch, Python
        and NumPy: later passes need torch's default one, and with `num_workers=0`, the samples need all.
        """
        vars(self).update(vars(state.state()))
        if not state.workers:  # the main process draws the numbers of these batches
            self.drawn_by_main = self.position
        self.workers, self.is_resumed = workers, not self.is_over
        if self.is_over:
            return
        self.last = None
        if self.is_pending and not self._draws_here():
            self.count, self.is_pending = self.count + 1, False
        now, (own, self.held) = self.own.get_state(), copy.deepcopy(self.before)
        if not self.setup.is_iterable:
            self.own.set_state(own)
            self.groups = []
            self._draw(self.position + (not workers))
            if self.own is self.main.torch and not torch.equal(now, own):
                self.own.set_state(now)

    def copied(self):
        """Continue with a copy of the loader."""
        self.base_seed, self.is_over = None, True
        self.count = self.count if self._draws_here() else -1
