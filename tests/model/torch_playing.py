"""The front ends "torch", "installed" and "stateful" of the player: passes of a loader of `torch_pass.Setup`."""

import random
from dataclasses import replace

from model import torch_pass, torch_real
from model.playing import Player, Script
from model.torch_drawing import RAISING
from model.torch_expected import TorchRun
from model.torch_pass import Setup


class TorchPlayer(Player):
    """Plays with a loader of torch. The play has the options of `torch_pass.Setup`; its source is the length."""

    mix, excludes = None, True

    def __init__(self, play):
        self.play, self.script, self.saved = play, Script(), []
        self.setup = Setup(play.source, num_workers=play.config[0], seed=play.seed % 1000, **play.options)
        self.run = TorchRun(self.setup)

    def start(self):
        for line in torch_real.head(self.play.front):
            self.script.do(line)
        self.open()
        self.begin()

    def open(self):
        workers = self.run.workers
        setup = replace(self.setup, num_workers=workers, persistent=self.setup.persistent and workers > 0)
        for line in torch_real.lines(setup, self.play.front):
            self.script.do(line)

    def begin(self):
        if self.setup.sampler[0] == "distributed":
            if self.setup.sets_epoch and not self.run.is_resumed:
                self.run.epoch = self.run.pass_index + 1
            self.script.do(f"sampler.set_epoch({self.run.epoch})")
        self.script.do("its = [iter(loader)]")
        self.run.begin()

    def end(self):
        self.script.do("its = loader = sampler = dataset = None")

    def release(self):
        self.script.space.update(its=None, loader=None)
        if "installation" in self.script.space:
            self.script.space["installation"].__exit__(None, None, None)

    def do_drop(self):
        """Drop the iterator first."""
        self.script.do("its = None")
        self.begin()

    def do_copy(self):
        self.script.do("loader = copy.copy(loader)")
        self.run.copied()
        self.begin()

    def do_epoch(self, number):
        self.run.epoch = number
        self.begin()

    def do_statistics(self):
        self.script.do("loader.statistics()")

    def do_save(self):
        if len(self.saved) < 6:
            line = "json.loads(json.dumps(loader.state_dict())), torch_real.numbers()"
            self.script.do(f"state{len(self.saved)} = {line}")
            self.saved.append(self.run.state())

    def do_load(self, workers, _backend, _world, slot=None):
        """Load a state into a new loader, with the generators of the program as they were."""
        if slot is None:
            self.do_save()
            slot = -1
        slot %= len(self.saved)
        self.end()
        self.run.load(self.saved[slot], workers % 4)
        self.open()
        self.script.do(f"loader.load_state_dict(state{slot}[0])")
        self.script.do(f"torch_real.set_numbers(state{slot}[1])")
        self.begin()

    def do_refuse(self, way):
        """A loader of a different order refuses the state of this place."""
        other = self._other(way)
        if other is not None and self.run.position and not self.run.is_over:
            call = f"torch_real.refusal(torch_pass.{other!r}, {self.play.front!r}, loader.state_dict())"
            self.script.check(call, "ValueError")

    def _other(self, way):
        """Return a setup with other batches, or None."""
        if self.setup.balance is not None:
            return replace(self.setup, num_workers=way % 2, persistent=False, raising=(), balance=None)
        setup, name = replace(self.setup, num_workers=way % 2, persistent=False, raising=()), self.setup.sampler[0]
        is_known = not setup.is_iterable
        sampler = {
            "sequential": ("random", False, None), "random": ("sequential",), "held": ("sequential",),
            "subset": ("subset", [key + 1 for key in setup.sampler[-1]] if name == "subset" else []),
            "batches": ("batches", [[key + 1 for key in each] for each in setup.sampler[-1]] if name == "batches" else []),
        }.get(name)  # fmt: skip
        if way % 4 == 0 and name != "batches" and setup.batch_size is not None:
            return replace(setup, batch_size=setup.batch_size + 1)
        if way % 4 == 1 and is_known and sampler is not None:
            return replace(setup, sampler=sampler)
        if (
            way % 4 == 2
            and (name in {"sequential", "held"} or setup.sampler == ("random", False, None))
            and setup.kind in RAISING
            and not (setup.is_iterable and self.setup.raising)  # an error ends a batch early
            and not self._knows_end()
        ):  # the other ones have a state, which is not compared
            # By one batch of each stream: otherwise the streams may have as many batches, which are shorter.
            shorter = max(0, self.run.position - self.run.streams) * (setup.batch_size or 1)
            return replace(setup, length=shorter if setup.is_iterable else setup.length - 1)
        if way % 4 == 3 and is_known and name in {"random", "subset", "weighted"}:
            return replace(setup, generator_seed=1 if setup.generator_seed is None else None)
        return None

    def _knows_end(self):
        """Return whether a stream in this process has returned a batch that is not full, so that its state is over."""
        num_read = self.run.position * (self.setup.batch_size or 1)
        return self.setup.is_iterable and not self.run.workers and num_read > self.setup.length

    def do_last(self):
        if self.run.last is not None:
            self.script.check("(loader.last.batch, list(loader.last.samples))", self.run.last)

    def _position(self, number):
        """Return a place of the pass, or None; and the expression of its batch."""
        if self.setup.is_iterable or self.run.last is None or not self.run.groups:
            return None, ""
        position = number % len(self.run.groups)
        return position, f"loader.last.epoch, {position}"

    def do_explain(self, _back, number):
        position, given = self._position(number)
        if position is not None:
            run = self.run
            keys = [key for _, key in torch_pass.kept(run.setup, run.groups, position, run.excluded)]
            keys = run.known[position][0] if position in run.known else [] if position < run.position else keys
            self.script.check(f"list(loader.explain({given}).samples)", keys)

    def do_compute(self, _back, number):
        position, given = self._position(number)
        is_known = position is not None and (position >= self.run.position or position in self.run.known)
        if not (is_known and self.run.workers and position >= self.run.drawn_by_main):
            return
        keys, value = self.run.computed(position)
        if keys:
            self.script.check(f"outcome(loader.compute, {given})", value)

    def do_exclude(self, seed, count):
        if not self.setup.is_iterable:
            ids = random.Random(seed).sample(range(self.setup.length), min(self.setup.length, count + 1))
            self.script.do(f"loader.exclude({ids})")
            self.run.excluded = {*self.run.excluded, *ids}

    def do_interrupt(self, after):
        if self.run.workers:
            self.script.is_interrupted = True
            super().do_interrupt(after)

    def do_fork(self):
        if self.run.workers and not self.run.is_over:
            super().do_fork()
