"""Random loaders of torch and operations, for the front ends of `model.torch_playing`."""

import random

from model import functions, torch_real
from model.drawing import operations
from model.playing import Play
from model.windows import Balance

OPERATIONS = frozenset({
    "next", "finish", "again", "drop", "copy", "epoch", "save", "load", "older", "statistics", "kill", "pause", "clock",
    "interrupt", "fork", "last", "explain", "compute", "exclude", "refuse",
})  # fmt: skip
RAISING = {"map", "getitems", "iterable", "own iterable"}  # the other ones end at an error


def drawn(seed, front, focus=()):
    """Return the play of a seed, and its features and operations. The members of a focus are more frequent."""
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
    _balance(random.Random(f"{seed} balance"), front, options, focus)
    features = {front, options["kind"], options.get("sampler", ["stream"])[0], f"workers={min(workers, 2)}"}
    features |= options.keys() - {"kind", "sampler", "error"}
    made = operations(chosen, OPERATIONS, focus)
    play = Play(seed, length, options, front, (workers, "process", 1), ("process",), made)
    return play, features, {name for name, *_ in made}


def _balance(chosen, front, options, focus):
    """Divide the samples of batches, in some plays."""
    may = front == "torch" and options["batch_size"] is not None and options.get("sampler", ["batches"])[0] != "batches"
    if may and chosen.random() < (1 if "balance" in focus else 0.25):
        steps, group = chosen.choice([(1, None), (2, None), (5, None), (1, 1), (1, 2)])
        given = {"steps": steps, "accumulate": chosen.choice([1, 1, 2, 3]), "group": group}
        options["balance"] = Balance(functions.Cost(chosen.randrange(50)), **given)
