"""The front ends "torch", "installed" and "stateful" of the player: passes of a loader of `torch_pass.Setup`."""

import random

from model import torch_pass, torch_real
from model.drawing import operations
from model.expected import Impossible
from model.playing import Difference, Play, Player, Script
from model.torch_expected import TorchRun
from model.torch_pass import Setup

OPERATIONS = frozenset({
    "next", "finish", "again", "drop", "copy", "epoch", "save", "load", "older", "statistics", "kill", "pause", "clock",
    "interrupt", "fork", "last", "explain", "compute", "exclude", "refuse",
})  # fmt: skip
RAISING = {"map", "getitems", "iterable", "own iterable"}  # the other ones end at an error


class TorchPlayer(Player):
    """Plays with a loader of torch. The options of the play are those of `torch_pass.Setup`; its source is the length."""

    mix = None

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
        setup = self.setup._replace(num_workers=workers, persistent=self.setup.persistent and workers > 0)
        for line in torch_real.lines(setup, self.play.front):
            self.script.do(line)

    def begin(self):
        if self.setup.sampler[0] == "distributed":
            if self.setup.sets_epoch and not self.run.is_resumed:
                self.run.epoch = self.run.number + 1
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
        """A loader of another order refuses the state of this place."""
        other = self._other(way)
        if other is not None and self.run.position and not self.run.is_over:
            call = f"torch_real.refusal(torch_pass.{other!r}, {self.play.front!r}, loader.state_dict())"
            self.script.check(call, "ValueError")

    def _other(self, way):
        """Return a setup with other batches, or None."""
        setup, name = self.setup._replace(num_workers=way % 2, persistent=False, raising=()), self.setup.sampler[0]
        is_known = not setup.is_iterable
        sampler = {
            "sequential": ("random", False, None), "random": ("sequential",), "held": ("sequential",),
            "subset": ("subset", [key + 1 for key in setup.sampler[-1]] if name == "subset" else []),
            "batches": ("batches", [[key + 1 for key in each] for each in setup.sampler[-1]] if name == "batches" else []),
        }.get(name)  # fmt: skip
        if way % 4 == 0 and name != "batches" and setup.batch_size is not None:
            return setup._replace(batch_size=setup.batch_size + 1)
        if way % 4 == 1 and is_known and sampler is not None:
            return setup._replace(sampler=sampler)
        if (
            way % 4 == 2
            and (name in {"sequential", "held"} or setup.sampler == ("random", False, None))
            and setup.kind in RAISING
        ):  # the other ones have a state, which is not compared
            shorter = (self.run.position - 1) * (setup.batch_size or 1)
            return setup._replace(length=shorter if setup.is_iterable else setup.length - 1)
        if way % 4 == 3 and is_known and name in {"random", "subset", "weighted"}:
            return setup._replace(generator_seed=1 if setup.generator_seed is None else None)
        return None

    def do_last(self):
        if self.run.last is not None:
            self.script.check("(loader.last.batch, list(loader.last.samples))", self.run.last)

    def _place(self, number):
        """Return a place of the pass, or None; and the expression of its batch."""
        if self.setup.is_iterable or self.run.last is None or not self.run.groups:
            return None, ""
        place = number % len(self.run.groups)
        return place, f"loader.last.epoch, {place}"

    def do_explain(self, _back, number):
        place, given = self._place(number)
        if place is not None:
            run = self.run
            keys = [key for _, key in torch_pass.kept(run.setup, run.groups, place, run.excluded)]
            keys = run.known[place][0] if place in run.known else [] if place < run.position else keys
            self.script.check(f"list(loader.explain({given}).samples)", keys)

    def do_compute(self, _back, number):
        place, given = self._place(number)
        if place is None or not self.run.workers or (place < self.run.position and place not in self.run.known):
            return
        keys, value = self.run.computed(place)
        if keys:
            self.script.check(f"outcome(loader.compute, {given})", value)

    def do_exclude(self, seed, count):
        if not self.setup.is_iterable:
            ids = random.Random(seed).sample(range(self.setup.length), min(self.setup.length, count + 1))
            self.script.do(f"loader.exclude({ids})")
            self.run.excluded = {*self.run.excluded, *ids}

    def do_interrupt(self, after):
        if self.run.workers:
            try:
                super().do_interrupt(after)
            except Difference as difference:
                if "an interrupt arrived while this pass was drawing" in str(difference):
                    raise Impossible from None  # the sampler is a generator, which has ended
                raise

    def do_fork(self):
        if self.run.workers and not self.run.is_over:
            super().do_fork()


def drawn(seed, front):
    """Return the play of a seed, and its features and operations."""
    chosen = random.Random(seed)
    workers, length = chosen.choice([0, 0, 1, 2, 3]), chosen.choice([1, 3, 8, 20, 33])
    options = {"kind": chosen.choice(["map", "map", "map", "getitems", *torch_real.KINDS])}
    options["batch_size"] = chosen.choice([None, 1, 2, 3, 5])
    if options["batch_size"] is not None and chosen.random() < 0.3:
        options["drop_last"] = True
    keys = chosen.choices(range(length), k=chosen.choice([3, 16, 25]))
    if not options["kind"].endswith("iterable"):
        world = chosen.choice([1, 2, 3])
        options["sampler"] = chosen.choice([
            ("sequential",), ("random", False, chosen.choice([None, None, 5, 40])), ("random", True, chosen.choice([9, 70])),
            ("subset", keys), ("weighted", [1.0 + key for key in keys], chosen.choice([3, 40]), True),
            ("distributed", chosen.randrange(world), world, chosen.random() < 0.7, chosen.randrange(3), chosen.random() < 0.3),
            ("batches", [keys[first : first + 3] for first in range(0, len(keys), 3)]),
            ("held", chosen.choice([("random",), ("numpy", "torch"), ("a.b", "a/b")])),
        ])  # fmt: skip
        if options["sampler"][0] == "batches":
            options["batch_size"] = 1
            options.pop("drop_last", None)
    if options["kind"] in RAISING and chosen.random() < 0.3:
        options["raising"] = tuple(chosen.choices(range(length), k=2))
        options["error"] = chosen.choice(["OSError", "Unusual"])
    rare = {"generator_seed": chosen.randrange(9), "persistent": True, "init_draws": 2, "sets_epoch": False}
    options |= {name: value for name, value in rare.items() if chosen.random() < 0.4}
    features = {front, options["kind"], options.get("sampler", ["stream"])[0], f"workers={min(workers, 2)}"}
    features |= options.keys() - {"kind", "sampler", "error"}
    made = operations(chosen, OPERATIONS)
    play = Play(seed, length, options, front, (workers, "process", 1), ("process",), made)
    return play, features, {name for name, *_ in made}
