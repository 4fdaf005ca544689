"""The front ends of the enqueuers."""

import copy
from dataclasses import replace

from model.elements import Failed
from model.expected import IndexRun, StreamRun
from model.functions import Growing
from model.playing import FRONTS, Front, Player
from model.program import END


class _Enqueued:
    """The run of an enqueuer: each start has a separate epoch, and an error stops the enqueuer.

    Attributes:
        is_over: It is not started, or it has stopped or ended.
        latest: The epoch of the latest batch.
        starts: The number of starts.
    """

    is_over, latest, starts = True, -1, 0

    def restart(self):
        self.is_over = False
        self.move()
        self.latest, self.starts = self.epoch, self.starts + 1

    def begin(self):
        """All iterators share the batches."""

    def take(self):
        if self.is_over:
            return [END]
        self.loop = self.epoch
        self.latest = self.epoch
        (found,) = super().take()
        self.is_over = found == END or isinstance(found, Failed)
        return [found]

    def stop(self):
        self.is_over = True


class _OrderedRun(_Enqueued, IndexRun):
    """The hook was called for fewer epochs than there are, if the enqueuer was stopped within an epoch."""

    age = 0

    def __init__(self, setup, *given):
        super().__init__(setup, *given)
        if isinstance(setup.source, Growing):
            setup.source.in_epoch = lambda _: Growing(setup.source.length, self.age)

    def move(self):
        if self.starts and self.end(self.epoch) is not None:  # an endless source continues after its last batch
            self.epoch, self.batch = self.epoch + 1, 0

    def end_epoch(self):
        """Call the hook of the source, if all batches of an epoch were taken."""
        if self.latest != self.epoch and not self.is_over:
            self.age, self.latest = self.age + 1, self.epoch

    def take(self):
        self.end_epoch()
        return super().take()


class _GeneratorRun(_Enqueued, StreamRun):
    def move(self):
        self.epoch, self.batch = self.starts, 0
        self.stream = self._opened()

    def _next_epoch(self):
        pass


class Enqueuing(Player):
    """Plays on an enqueuer."""

    @staticmethod
    def run_of(setup, *given):
        setup = replace(setup, source=copy.copy(setup.source))
        return (_OrderedRun if setup.has_index else _GeneratorRun)(setup, *given)

    def begin(self):
        """Start again if it is over."""
        if self.run.is_over:
            self.script.do(f"for each in runs: each.stop(); each.start(workers={self.workers})")
            self.run.restart()
        super().begin()

    def do_stop(self, workers):
        self.workers = workers % 4
        super().do_stop()

    def do_order(self, shuffles):
        """The next start has this order."""
        if self.setup.has_index and "shuffle" in self.play.options:
            shuffles = bool(shuffles % 2)
            self.script.do(f"for each in runs: each.stop(); each.shuffle = {shuffles}")
            self.text = f"shuffle={shuffles}, "
            self.run.stop()
            self.setup = self.run.setup = replace(self.run.setup, shuffle=shuffles)
            self.run.known = {}
            self.begin()

    def do_ending(self):
        """Run the hook of a complete epoch now."""
        self.script.do("for each in runs: each.join_end_of_epoch()")
        self.run.end_epoch()

    def do_other(self, seed):
        """Another enqueuer of the same source at the same time."""
        if isinstance(self.setup.source, Growing) or not self.workers:
            return  # without workers, both compute in threads, which share generators
        run = self.run_of(self.setup, seed, 1, [])
        run.restart()
        self.script.do(f"other = {self.opened(seed, self.text)}")
        self.script.do("other[0].start(workers=0)")
        self.script.do("others = [other[0].get()]")
        self.script.check("[take(others) for _ in range(4)]", [run.take() for _ in range(4)])


_OPERATIONS = {"next", "finish", "again", "stop", "statistics", "kill", "pause", "interrupt", "fork", "clock", "other"}
_CALL = "(source, seed={seed}, {options}use_multiprocessing={backend!r} == 'process')]"
FRONTS["ordered"] = Front(
    "[mpqueue.OrderedEnqueuer" + _CALL, "[each.get() for each in runs]",
    frozenset(_OPERATIONS | {"order", "ending"}), Enqueuing, frozenset({"shuffle"}),
    streams=False, worlds=(1,),
)  # fmt: skip
FRONTS["generator"] = Front(
    "[mpqueue.GeneratorEnqueuer" + _CALL, "[each.get() for each in runs]",
    frozenset(_OPERATIONS), Enqueuing, frozenset({"lanes"}), streams=True, worlds=(1,),
)  # fmt: skip
