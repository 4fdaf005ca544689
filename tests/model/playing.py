"""A play: a pipeline, a front end and operations, played by the product and by the model side by side.

Each step is a line of a program, which is executed at once. So the program of a play that shows a difference is its
lines, and a play is plain data that can be made smaller.
"""

import contextlib
import gc
import importlib.util
import itertools
import json
import os
import random
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from model import adapted, functions, pipelines, program, served
from model.elements import Failed, Impossible, Run
from model.expected import MOST, ApartRun, run_of
from model.orders import Index, Setup, Stream, batches
from model.program import plain
from model.stages import Batch, Cache, Joining, Map, Mix, Picked, Repeat, Skip, Window, Zip

import mpqueue

_time = time.time


_LOSS = "an interrupt arrived while this pass was drawing"  # which torch's loader reports in a later call


class Difference(AssertionError):
    """The product and the model differ, or something is left at the end."""


@dataclass(frozen=True)
class Play:
    """A play.

    Attributes:
        seed: The seed of the loaders.
        source: A pipeline, or a plain source.
        options: The options of the loader that decide its batches.
        front: The name of the front end.
        config: The first workers: (workers, backend, number of ranks).
        backends: The backends that give these random numbers: threads share the global generators.
        operations: Their names, with numbers that determine the details when they are played.
        fatal: The name of a file. While it exists, a fatal sample kills its worker; empty: no sample is fatal.
    """

    seed: int
    source: Any
    options: dict[str, Any]
    front: str
    config: tuple[int, str, int]
    backends: tuple[str, ...]
    operations: list[tuple[Any, ...]]
    fatal: str = ""


class Script:
    """The lines of a program, with the objects that they have made."""

    def __init__(self):
        self.lines, self.is_interrupted = [], False
        self.space = {"mpqueue": mpqueue, "Dataset": mpqueue.Dataset}
        for module in (functions, pipelines, program, served, adapted):
            self.space.update({name: value for name, value in vars(module).items() if name[0] != "_"})
        self.space |= {"json": json, "shutil": shutil, "tempfile": tempfile, "np": np}

    def do(self, line):
        self.lines.append(line)
        try:
            exec(line, self.space)
        except Exception as error:
            raise Difference(f"{line}\n    raised {type(error).__name__}: {error}") from error

    def check(self, expression, expected):
        self.lines.append(f"assert {expression} == {expected!r}")
        try:
            found = eval(expression, self.space)
        except Exception as error:
            if self.is_interrupted and _LOSS in str(error):
                raise Impossible from None
            problem = f"raised {type(error).__name__}: {error}\n    instead of {expected!r}"
            raise Difference(f"{expression}\n    {problem}") from error
        if found != expected and self.is_interrupted and _LOSS in repr(found):
            raise Impossible  # when an interrupt strikes the sampler is promised by no document
        if found != expected:
            raise Difference(f"{expression}\n    is        {found!r}\n    should be {expected!r}")
        return found

    def text(self, comment):
        """Return the program."""
        head = ["import json, shutil, tempfile", "import mpqueue", "import numpy as np", "from mpqueue import Dataset"]
        head += [f"from model.{name} import *" for name in ("functions", "pipelines", "program", "served", "adapted")]
        body = ["    " + line.replace("\n", "\n    ") for line in self.lines]
        run = ["    main()"]
        if any("Served(" in line for line in self.lines):  # without its end, this program would wait for the server
            run = ["    try:", "        main()", "    finally:", "        stop_servers()"]
        lines = [f'"""{comment}"""', *head, "", "def main():", *body, "", 'if __name__ == "__main__":', *run, ""]
        return "\n".join(lines)


class Front(NamedTuple):
    """A front end: expressions of the product, for all ranks.

    Attributes:
        opened: Opens the ranks; the parts in braces are filled in.
        begin: Begins a loop on each rank.
        operations: The names of the operations that it promises.
        player: The class of its player; None: `Player`.
        options: The names of the options that it has; None: all.
        streams: Whether its sources are streams; None: any.
        worlds: The numbers of ranks.
        backends: The backends.
    """

    opened: str
    begin: str
    operations: frozenset[str]
    player: Any = None
    options: frozenset[str] | None = None
    streams: bool | None = None
    worlds: tuple[int, ...] = (1, 1, 2, 4)
    backends: tuple[tuple[str, ...], ...] = (("process",), ("process",), ("process", "thread"))


ALWAYS = {
    "next", "finish", "again", "save", "load", "older", "statistics", "kill", "pause", "stop", "mark", "other",
    "interrupt", "fork", "clock", "damage",
}  # fmt: skip
POSITIONS = {"last", "explain", "compute", "seek"}
ALL = frozenset(ALWAYS | POSITIONS | {"exclude", "weights"})
OPENED = (
    "[mpqueue.Loader(source, seed={seed}, {options}workers={workers}, backend={backend!r}, shard=(rank, {world}))"
    " for rank in range({world})]"
)
FRONTS = {"loader": Front(OPENED, "[iter(each) for each in runs]", ALL | {"child", "swap", "memory"})}
TORCH_FRONTS = {"torch": "torch", "installed": "torch", "stateful": "torchdata"}  # and their packages
PACKAGES = TORCH_FRONTS | {"prefetch": "torch", "prefetch-ahead": "torch", "jax": "jax", "keras": "keras"}


def fronts():
    """Return the names of all front ends with installed packages."""
    names = [*FRONTS, *TORCH_FRONTS]
    return [name for name in names if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name])]


class Player:
    """Plays a play.

    Args:
        play: The play.

    Attributes:
        owners: The expression of the objects that have ``exclude`` and ``set_weights``.
        states: The expression of the objects that have the states and ``last``.
    """

    owners = states = "runs"
    interrupted = "interrupted"
    is_told = reads_ahead = False

    def __init__(self, play):
        self.play, self.script, self.front = play, Script(), FRONTS[play.front]
        self.workers, self.backend, world = play.config
        self.is_dataset = isinstance(play.source, tuple)
        stage = pipelines.stage_of(play.source) if self.is_dataset else play.source
        options = {name: value for name, value in play.options.items() if name in {each.name for each in fields(Setup)}}
        self.setup = Setup(stage, self.is_dataset, **options)
        self.run = self.run_of(self.setup, play.seed, world, play.options.get("exclude", []))
        self.mix = _only_mix(stage) if self.is_dataset else None
        self.has_parts = self.is_dataset and play.front == "loader" and _has_parts(stage)
        indexed = [each for each in _all(stage) if each.is_indexed] if self.is_dataset else []
        self.is_endless = any(each.length(Run(0, 0)) is None for each in indexed)
        self.is_told = "Told()" in repr(play.source)
        self.saved = []

    run_of = staticmethod(run_of)

    @property
    def excludes(self):
        return "exclude" in self.front.operations

    @property
    def num_owners(self):
        return self.run.world

    @property
    def num_runs(self):
        return self.run.world

    def start(self):
        """Describe the source, open it and begin."""
        source = pipelines.code_of(self._unbatched()) if self.is_dataset else repr(self.play.source)
        if "folder" in source:
            self.script.do("folder = tempfile.mkdtemp()")
        self.source = f"source = {source}"
        self.script.do(self.source)
        self.open()
        if "start_method" in self.play.options:
            self.script.do("save_often()")
        self.begin()

    def _unbatched(self):
        """Return the pipeline. With a balance, options replace its last stage: a loader divides samples."""
        return self.play.source[:-1] if self.setup.balance is not None else self.play.source

    def open(self):
        names = {"skips": "on_error", "is_dataset": None}
        options = {names.get(name, name): value for name, value in self.play.options.items()}
        if self.setup.balance is not None and self.is_dataset:
            options |= dict(zip(("batch_size", "drop_last", "collate"), self.play.source[-1][1:], strict=True))
        if "on_error" in options:
            options["on_error"] = "skip"
        if options.get("collate") in functions.COLLATE:
            options["collate"] = functions.COLLATE[options["collate"]]
        if self.setup.has_index:
            options.pop("lanes", None)
        codes = {name: value.code() if name == "balance" else repr(value) for name, value in options.items()}
        self.text = "".join(f"{name}={code}, " for name, code in codes.items())
        self.script.do(f"runs = {self.opened(self.play.seed, self.text, self.workers, self.backend, self.run.world)}")

    def opened(self, seed, text, workers=0, backend="process", world=1):
        return self.front.opened.format(seed=seed, options=text, workers=workers, backend=backend, world=world)

    def begin(self):
        self.run.begin()
        if self.is_told:
            self.run.known = {}
            self.script.do(f"tell({self.run.epoch})")
        self.script.do(f"its = {self.front.begin}")

    def operate(self, name, *numbers):
        """Play an operation, if it is possible here."""
        if self.mix is not None:
            self.mix.changes[:] = self.run.weights
        getattr(self, f"do_{name}")(*numbers)

    def end(self):
        self.close()
        if "folder" in self.script.space:
            self.script.do("shutil.rmtree(folder)")

    def close(self):
        self.script.do("for each in runs: each.stop()")

    def release(self):
        """Release all resources after a difference; idempotent."""
        for each in [*self.script.space.get("runs", ()), *self.script.space.get("other", ())]:
            each.stop()

    def take(self, count, call="take(its)"):
        """Take batches of each rank, at most to the end; return whether the loop continues."""
        expected = self._expected(count)
        if len(expected) == 1:
            self.script.check(call, expected[0])
        else:
            self.script.check(f"[{call} for _ in range({len(expected)})]", expected)
        return expected[-1] != [program.END] * self.num_runs

    def _expected(self, count):
        expected = []
        while len(expected) < count and (not expected or expected[-1] != [program.END] * self.num_runs):
            expected.append(self.run.take())
        return expected

    # -- Operations

    def do_next(self, count):
        if not self.take(count % 5 + 1):
            self.begin()

    def do_finish(self, seed, count):
        if not self.take(MOST):
            if seed % 2 and self.excludes:
                self.do_exclude(seed, count)
                self.take(1)  # the iterator remains at the end
            if (hasattr(self.play.source, "in_epoch") or self.is_told) and count % 2:
                self.script.do("time.sleep(0.2)")  # a hook runs, and the next epoch may be computed ahead
            self.begin()

    def do_again(self):
        if not hasattr(self.play.source, "in_epoch"):  # the hook is not called for an epoch that was left
            self.begin()

    def do_stop(self, number=0):
        self.script.do("for each in runs: each.stop()")
        self.run.stop()
        self.script.check("take(its)", [program.END] * self.num_runs)
        self.begin()

    def do_statistics(self):
        self.script.do("[each.statistics() for each in runs]")
        if self.has_parts:
            counts = [Counter(str(part) for part, *_ in of_rank) for of_rank in self.run.returned]
            self.script.check("list(map(parts_of, runs))", list(map(dict, counts)))

    def do_save(self):
        if len(self.saved) < 6:
            states = f"[each.state_dict() for each in {self.states}]"
            self.script.do(f"state{len(self.saved)} = json.loads(json.dumps({states}))")
            self.saved.append(self.run.state())

    def do_load(self, workers, backend, world, slot=None):
        """Load the latest state into new loaders."""
        if slot is None:
            self.do_save()
            slot = len(self.saved) - 1
        state = self.saved[slot % len(self.saved)]
        worlds = [1, 2, 4] if self.play.config[2] > 1 and not state.weights else [state.world]
        if self.setup.has_index:  # with drop_last, each rank needs a batch
            worlds = [each for each in worlds if Index(self.setup, 0, state.epoch, each).turns(0) != 0] or [state.world]
        if not self.setup.has_index and self.setup.epoch_batches is None:
            worlds = [state.world]
        self.script.do("for each in runs: each.stop()")
        self.workers = workers % 4
        self.backend = self.play.backends[backend % len(self.play.backends)]
        world = state.world if state.is_apart else worlds[world % len(worlds)]
        own, name = state.is_apart or (world == state.world and slot % 2), f"state{slot % len(self.saved)}"
        if not own and self.setup.balance is not None and state.is_refused(world):
            self.script.do(f"others = {self.opened(self.play.seed, self.text, world=world)}")
            self.script.check(f"[kind_of(each.load_state_dict, {name}) for each in others]", ["ValueError"] * world)
            world, own = state.world, True
        if self.mix is not None:
            self.mix.changes[:] = state.weights
        self.run.load(state, world, is_own=own)
        self.open()
        has_rank = own and (slot % 2 or state.epoch not in state.own)
        self.resume(f"{name}{'[rank]' * has_rank}", workers // 2)

    def resume(self, state, number):
        self.script.do(f"for rank, each in enumerate({self.states}): each.load_state_dict({state})")
        self.begin()

    def do_swap(self, which):
        """Load the state of a rank that alone has left out a batch into the next rank, which refuses it."""
        run, rank = self.run, which % self.run.world
        is_apart = isinstance(run, ApartRun) and run.world > 1 and run.own[rank] == run.epoch
        if is_apart and run.points[rank] != run.end(run.epoch):  # at the end of the epoch, it is at the next one
            call = f"kind_of(runs[{(rank + 1) % run.world}].load_state_dict, runs[{rank}].state_dict())"
            self.script.check(call, "ValueError")

    def do_older(self, workers, backend, world, slot):
        """Load an older state."""
        if self.saved:
            self.do_load(workers, backend, world, slot)

    def do_damage(self, way, workers, backend):
        """Damage the files of caches, and continue with new loaders."""
        if "folder" in self.script.space:
            self.do_save()
            self.script.do(f"for each in runs: each.stop()\ndamage(folder, {way})\n{self.source}")
            self.do_load(workers, backend, 0, len(self.saved) - 1)

    def do_last(self):
        if self.run.last is not None:
            expected = [(each.epoch, each.batch, each.ids, each.skipped) for each in self.run.last]
            found = "each.last.epoch, each.last.batch, list(each.last.samples), list(each.last.skipped)"
            self.script.check(f"[({found}) for each in {self.states}]", expected)
            if self.setup.balance is not None:
                infos = f"[info_of(each.last) for each in {self.states}]"
                # The costs of a step are the costs that are known now.
                now = [self.run.at(each.epoch, each.batch, rank) for rank, each in enumerate(self.run.last)]
                self.script.check(infos, [(each.ids, each.costs) for each in now])

    def _position(self, back, number):
        """Return the place of a known batch that all ranks have, or None."""
        run = self.run
        epoch = max(0, run.epoch + back % 3 - 1)
        draws = isinstance(self.setup.sampler, functions.Shuffling)
        if draws and (run.last is None or not run.begun <= run.epoch - 1 <= epoch <= run.epoch == run.last[0].epoch):
            return None  # the orders of other epochs are not known
        found = [set(run.of(epoch, rank)) for rank in range(run.world)]
        numbers = sorted(each for each in set.intersection(*found) if run.is_known(epoch, each))
        return (epoch, numbers[number % len(numbers)]) if numbers else None

    def _is_refused(self, method):
        """Return whether the batches are a stream's, which refuses the method at any place."""
        if not self.setup.has_index:
            self.script.check(f"[kind_of(each.{method}, 0, 0) for each in runs]", ["ValueError"] * self.run.world)
        return not self.setup.has_index

    def do_explain(self, back, number):
        if self._is_refused("explain"):
            return
        position = self._position(back, number)
        found = [] if position is None else [self.run.at(*position, rank) for rank in range(self.run.world)]
        if found and not self.setup.skips:
            call = f"[info_of(each.explain({position[0]}, {position[1]})) for each in runs]"
            self._ask(call, [(each.ids, each.costs) for each in found])

        epoch, first = self.run.known_from
        if first and position is not None and position[0] == epoch:
            call = f"[kind_of(each.explain, {epoch}, {first - 1}) for each in runs]"
            self.script.check(call, ["LookupError"] * self.run.world)

    def do_compute(self, back, number):
        if self._is_refused("compute"):
            return
        position = self._position(back, number)
        if position is not None:
            expected = [plain(self.run.at(*position, rank).value) for rank in range(self.run.world)]
            self._ask(f"[outcome(each.compute, {position[0]}, {position[1]}) for each in runs]", expected)

    def _ask(self, call, expected):
        """Ask a question, which adds no element to a cache. Workers may store elements at the same time."""
        is_still = "folder" in self.script.space and not self.workers
        if is_still:
            self.script.do("size = size_of(folder)")
        self.script.check(call, expected)
        if is_still:
            self.script.check("size_of(folder)", self.script.space["size"])

    def do_seek(self, back, number):
        if self._is_refused("seek"):
            return
        position = self._position(back, number)
        if position is not None:
            self.script.do(f"for each in runs: each.seek({position[0]}, {position[1]})")
            self.run.seek(*position)
            self.begin()

    def do_exclude(self, seed, count):
        chosen, ids = random.Random(seed), self._ids()
        if not ids or (self.is_endless and (self.run.changes or len(ids) < 20)):
            return  # without any sample, the search for the next element of an endless order has no end
        ids = chosen.sample(ids, min(len(ids), count % 9 + 1))
        self.script.do(f"for each in {self.owners}: each.exclude({ids!r})")
        self.run.exclude(ids)

    def _ids(self):
        """Return the ids of samples of this epoch, in order."""
        run = self.run
        if self.setup.has_index:
            found = [each for rank in range(run.world) for each in run.of(run.epoch, rank).values()]
            return list(dict.fromkeys(sample for each in found for sample in each.ids))
        stream = Stream(self.setup, run.seed, 0 if self.setup.epoch_batches else run.epoch)
        found = [each for _ in range(40) if not isinstance(each := stream.take(), Failed | None)]
        return list(dict.fromkeys(sample for each in found for sample in each.ids()))

    def do_weights(self, seed):
        run = self.run
        number = _samples_before(self, run) if self.mix is not None and self.setup.has_index else None
        if self.mix is None or (self.setup.has_index and number is None):
            return
        chosen = random.Random(seed)
        weights = [chosen.choice([1, 2, 3]) for _ in self.mix.inputs]
        weights[0] += {1: 0, 2: 0, 3: 1, 4: 0, 5: 3, 6: 2, 7: 1, 8: 0, 9: 7}[sum(weights)]
        named = dict(zip(self.mix.parts, weights, strict=True)) if isinstance(self.mix.parts[0], str) else weights
        if number is None:
            self._weigh_stream(named, weights)
            return
        epoch, at = number
        # A server has read ahead to a place that depends on times.
        position = "" if seed % 2 and self.play.front == "loader" else f", at={at}"
        self.script.do(f"for each in {self.owners}: each.set_weights({named!r}{position})")
        change = epoch, at, tuple(map(float, weights))
        run.weights = [*(each for each in run.weights if each[:2] < change[:2]), change]
        run.known = {}
        self.mix.changes[:] = run.weights
        run.settle()

    def _weigh_stream(self, named, weights):
        """Change the weights in a stream, unless a stage reads the samples of the mixture by index."""
        stage = self.setup.source
        while not isinstance(stage, Mix) and (not stage.is_indexed or isinstance(stage, Map)):
            stage = stage.inputs[0]
        if isinstance(stage, Mix):
            self.run.weigh(tuple(map(float, weights)))
            self.script.do(f"for each in {self.owners}: each.set_weights({named!r})")
        else:
            call = f"[kind_of(each.set_weights, {named!r}) for each in {self.owners}]"
            self.script.check(call, ["ValueError"] * self.num_owners)

    def do_kill(self, which):
        self.script.do(f"kill({which % 3})")

    def do_pause(self):
        self.script.do("pause()")

    def do_interrupt(self, after):
        if not self.take(1, f"{self.interrupted}(its, {(after % 30 + 1) / 5000})"):
            self.begin()

    def do_fork(self):
        self.script.check("forked(its)", ["RuntimeError"] * self.num_runs)

    def do_child(self, count):
        """A forked child keeps a batch."""
        expected = self._expected(count)
        self.script.check(f"seen_by_child(its, {len(expected) - 1})", expected)
        if expected[-1][0] == program.END:
            self.begin()

    def do_clock(self):
        """The clock of the machine jumps by a day."""
        self.script.do("jump()")  # undone at the end of the play

    def do_mark(self):
        """Kill a worker in the middle of a sample, if the pipeline has such a sample."""
        if self.workers and self.backend == "process" and self.play.fatal:
            self.script.do(f"mark = marked({self.play.fatal!r})\nmark.__enter__()")
            self.do_next(2)
            self.script.do("mark.__exit__(None, None, None)")

    def do_memory(self, most, world):
        """Memory runs out when each of the next loaders has some slots: it computes fewer batches ahead."""
        if self.workers and self.backend == "process":
            # A lane that has read ahead may keep a batch of an inner stage, in one slot of its worker.
            keeps_batches = any(each.__name__ in repr(self.play.source) for each in functions.COLLATE)
            self.script.do(f"limit_memory({most + 1 + self.workers * keeps_batches})")
            self.do_load(self.workers, self.play.backends.index("process"), world)
            self.do_next(4)
            self.script.do("limit_memory()")

    def do_other(self, seed):
        """Run the same source at the same time, maybe with a shared cache, without exclusions, maybe without skips."""
        if self.run.world > 1 or self.run.weights:
            return
        # Threads share generators, so their numbers are not known.
        if seed % 5 == 0 and self.play.backends == ("process",):
            text = self.text.replace("start_method='fork', ", "")
            self.script.do(f"other = {self.opened(seed, text, 2, 'thread')}\nothers = iter(other[0])")
            self.script.do("[outcome(next, others) for _ in range(20)]\nother[0].stop()")
            return
        skips = self.setup.skips and seed % 2 == 0
        text = re.sub(r"exclude=[^]]*\], ", "", self.text)
        text = text if skips else text.replace("on_error='skip', ", "")
        self.script.do(f"other = {self.opened(seed, text)}")
        found = itertools.islice(batches(replace(self.setup, skips=skips), seed, 0), 12)
        expected = [plain(each.value) for each in found]
        self.script.do("others = iter(other[0])")
        self.script.check(f"[outcome(next, others) for _ in range({len(expected)})]", expected)


def _only_mix(stage):
    """Return the only mixture of a dataset that uses its samples in their order, or None."""
    while not isinstance(stage, Mix):
        if len(stage.inputs) != 1 or isinstance(stage, Picked | Repeat | Cache | Zip):
            return None
        if isinstance(stage, Window) and stage.stride < stage.size:
            return None  # an element is in several windows
        stage = stage.inputs[0]
    return None if any(isinstance(each, Mix) for each in _all(stage)[1:]) else stage


def _has_parts(stage):
    """Return whether the ids begin with the parts of the only mixture."""
    while len(stage.inputs) == 1 and not isinstance(stage, Joining):
        stage = stage.inputs[0]
    return isinstance(stage, Mix) and not any(isinstance(each, Mix | Zip) for each in _all(stage)[1:])


def _all(stage):
    return [stage, *(each for input_ in stage.inputs for each in _all(input_))]


def _samples_before(player, run):
    """Return the epoch and the first sample of the mixture that no rank has got."""
    stage, number = player.setup.source, run.first_new()
    if number is None:
        return None
    if run.setup.balance is not None:
        number = run.first_undivided()
    while not isinstance(stage, Mix):
        if isinstance(stage, Batch | Window):
            number *= stage.size
        elif isinstance(stage, Skip):
            number += stage.count
        stage = stage.inputs[0]
    return run.epoch, number


def leftovers():
    """Return the resources of this process: workers, open files, and mapped segments."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        segments = sum("/dev/shm/" in line or "memfd:" in line for line in maps)
    return {"workers": len(program.workers()), "files": len(os.listdir("/proc/self/fd")), "segments": segments}


def _player(given):
    if given.front in TORCH_FRONTS:
        from model import torch_playing

        return torch_playing.TorchPlayer(given)
    return (FRONTS[given.front].player or Player)(given)


def play(given):
    """Play; raise a `Difference` with the program of the play."""
    player = _player(given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(Impossible):
                player.start()
                for operation in given.operations:
                    player.operate(*operation)
            player.end()
    except Difference as difference:
        first_line, *_ = str(difference).splitlines()
        difference.program = player.script.text(f"Seed {given.seed}, {given.front}: {first_line[:80]}")
        raise
    finally:
        time.time = _time  # after a jump of the clock
        program.save_often(is_on=False)
        program.limit_memory()
        player.release()
    player.script.space.clear()
