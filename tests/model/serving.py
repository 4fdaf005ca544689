"""The front ends of a server: its ranks, and the consumers of a broadcast."""

from model.expected import IndexRun, StreamRun
from model.playing import FRONTS, MOST, Front, Player
from model.program import END

_OPTIONS = {"shuffle", "batch_size", "drop_last", "sampler", "batch_sampler", "collate", "lanes", "epoch_batches"}
_RECORD = 32  # bytes of a record of the journal


class _Consumers:
    """The run of the consumers: a loop continues the epoch of the last one. In a broadcast, all get each batch.

    Attributes:
        copies: The number of consumers that get each batch.
        taken: The epoch of the latest batches, and the batches of this epoch.
    """

    copies, began, continues, taken = 1, None, False, (0, [])
    is_apart = False  # one state has the places of all consumers

    def begin(self):
        self.goes, self.continues = [True] * self.world, self.began == self.epoch
        super().begin()
        self.began = self.epoch

    def take(self):
        epoch, continues, self.continues = self.epoch, self.continues, False
        found = super().take()
        if found == [END] * self.world and continues:  # an empty rest of an epoch is not a separate loop
            self.begin()
            epoch, found = self.epoch, super().take()
        if found == [END] * self.world:
            self.taken = self.epoch, []
        else:
            self.taken = epoch, [*(self.taken[1] if self.taken[0] == epoch else []), found * self.copies]
        return found * self.copies


class _IndexConsumers(_Consumers, IndexRun):
    pass


class _StreamConsumers(_Consumers, StreamRun):
    def _round(self):
        """Rank r of n gets every n-th batch of one order; an incomplete round is left out."""
        found = [self.stream.take(0, 1) for _ in range(self.world)]
        return [None] * self.world if None in found else found


class Serving(Player):
    """Plays on a server and its consumers."""

    interrupted = "interrupted_at_once"
    reads_ahead = True

    def __init__(self, play):
        super().__init__(play)
        self.run.copies = 2 if play.front == "broadcast" else 1
        self.workers = max(1, self.workers)
        self.awaits = False  # the consumers of a server that was killed are not attached to the next one

    @staticmethod
    def run_of(setup, *given):
        return (_IndexConsumers if setup.has_index else _StreamConsumers)(setup, *given)

    @property
    def num_runs(self):
        return self.run.world * self.run.copies

    def close(self):
        self.script.do("for each in runs: each.close()")
        self.script.do("server.stop()")

    def release(self):
        for each in self.script.space.get("runs", ()):
            each.close()
        if "server" in self.script.space:
            self.script.space["server"].stop()

    def begin(self):
        super().begin()
        if self.awaits:  # a consumer is not certainly attached again before it requests a batch
            self.do_next(0)

    def take(self, count, call="at_once(next, its)"):
        self.awaits = False
        return super().take(count, call)

    def do_leave(self, which):
        """A consumer leaves, and a new consumer replaces it.

        A rank gets the batch again that was not taken. A consumer of a broadcast begins with the next epoch, after the
        other one has got the rest of this one.
        """
        self.do_next(0)  # otherwise the loop may be over the end of an epoch only, and become the next one
        if not self.run.taken[1]:
            return  # an empty epoch may be over for one consumer and not for the others
        if self.run.copies > 1 and self.is_endless and self.setup.epoch_batches is None:
            return  # there is no next epoch
        which %= self.num_runs
        if self.run.copies > 1:
            self.script.do(f"its[{which}] = None")
            self.script.do(f"runs[{which}].close()")
            self.script.do(f"runs[{which}] = server.attach()")
            rest = self._expected(MOST)
            while rest[-1] != [END] * self.num_runs:
                rest += self._expected(MOST)
            rest = [batches[1 - which] for batches in rest]
            self.script.check(f"[outcome(next, its[{1 - which}]) for _ in range({len(rest)})]", rest)
        else:
            self.script.do("its = one = None")
            self.script.do(f"lose(runs, {which})")
            self.script.do(f"runs[{which}] = server.attach({which})")
            self.script.do(f"one = iter(runs[{which}])")
            self.script.check("outcome(next, one)", self.run.taken[1][-1][which])
        self.begin()

    def do_crash(self, workers, begins, back=None):
        """The server is killed, and the next one continues with its journal."""
        if self.play.options.get("journal"):
            given = workers % 3 + 1 if back is None else f"{workers % 3 + 1}, {back}"
            self.script.check(f"server.crash({given})", None if back is None or back < _RECORD else "ServiceError")
            self.awaits = not self.setup.has_index
            if begins % 2:
                self.begin()
            if self.run.copies > 1:  # no consumer gets a batch before all are back
                self.do_next(0)

    def do_corrupt(self, *given):
        """A byte of the journal has changed after a crash.

        If it is in the last record, the server continues before that record, and the consumer knows that it has the
        batch. Otherwise no server begins with the journal.
        """
        for _ in range(2):  # so that there is a record: a batch is taken when the next one is requested
            self.do_next(0)
        self.do_crash(*given[: 3 if len(self.run.taken[1]) > 1 else 2])


_OPERATIONS = {
    "next", "finish", "again", "statistics", "kill", "pause", "interrupt", "fork", "clock", "leave", "crash", "corrupt",
}  # fmt: skip
for _name, _mode, _attached, _worlds in (
    ("server", "mode='split', world={world}", "server.attach(rank) for rank in range({world})", (1, 2, 4)),
    ("broadcast", "mode='broadcast', world=2", "server.attach() for _ in range(2)", (1,)),
):
    FRONTS[_name] = Front(
        f"(server := Served(source, seed={{seed}}, {{options}}workers={{workers}}, {_mode})) and [{_attached}]",
        "entered(runs)",
        frozenset(_OPERATIONS),
        Serving,
        frozenset(_OPTIONS | {"skips", "journal", "balance", "exclude"}),
        worlds=_worlds,
        backends=(("process",),),
    )
