"""The package draws nothing from NumPy's `Generator` or from Python's `random` that an order depends on.

NumPy may change the results of ``Generator.shuffle``, ``integers`` and similar methods with any version. Only raw words
of a bit generator and `SeedSequence` are the same in all versions: see `mpqueue.seeding.words`.
"""

import ast
import random
from collections import defaultdict

import numpy as np
import pytest
from helpers.package_structure import ROOT

pytestmark = pytest.mark.pure

MODULES = {"random", "np.random", "numpy.random"}
_STATE = {"seed", "getstate", "setstate", "bit_generator"}
METHODS = {name for kind in (np.random.Generator, random.Random) for name in dir(kind) if name[0] != "_"} - _STATE

CLASSES = "a class, to search, seed and create generators, which users draw from"
STATE = "saves, seeds and restores the generators that all code of a process shares; draws nothing for mpqueue"
ALLOWED = {
    "np.random.PCG64": "raw words, the same in all versions of NumPy",
    "np.random.Philox": "raw words, the same in all versions of NumPy",
    "np.random.SeedSequence": "the same in all versions of NumPy",
    **dict.fromkeys(["np.random.Generator", "np.random.RandomState", "np.random.MT19937", "random.Random"], CLASSES),
    **dict.fromkeys(["np.random.seed", "np.random.get_state", "np.random.set_state", "random.seed"], STATE),
    **dict.fromkeys(["np.random.get_bit_generator", "np.random.set_bit_generator"], STATE),
    **dict.fromkeys(["random.getstate", "random.setstate", "random.getrandbits"], STATE),
    "np.random.rand": "finds the object of NumPy's global generator",
    "random.random": "finds the object of Python's global generator",
    "random.gauss": "finds the object of Python's global generator",
    "np.random.standard_normal": "uses up the cached normal number of NumPy's global generator",
    "random.SystemRandom": "a class without a seed, for delays; generators of this class in a source are skipped",
    "_dice.random": "the delay before a request is repeated",
    "(random if epoch is None else random.Random(epoch)).shuffle": "the order of Keras, which a program may compare",
    "described.shuffle": "a stage of a `Dataset`",
    "torch.randint": "the order of Accelerate, as torch draws it",
}


def draws_of(tree):
    """Yield the names of `random` and `numpy.random`, and the calls of methods with the name of a draw."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "") in {"random", "numpy.random"}:
            yield f"from {node.module} import"
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            yield ast.unparse(node.func)


def test_only_listed_names_of_random_generators_are_used():
    found = defaultdict(list)
    for path in sorted((ROOT / "mpqueue").rglob("*.py")):
        if "tf1" not in path.relative_to(ROOT).parts:
            for name in draws_of(ast.parse(path.read_text("utf-8"))):
                found[name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if name not in ALLOWED} == {}
    assert {name for name in ALLOWED if name not in found} == set()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("generator.shuffle(order)", ["generator.shuffle"]),
        ("np.random.default_rng(3).integers(5)", ["np.random.default_rng(3).integers", "np.random.default_rng"]),
        ("draw = random.randrange", ["random.randrange"]),
        ("from random import choice", ["from random import"]),
        ("bits.random_raw(3); options.shuffle; sequence.generate_state(2)", []),
    ],
)
def test_draws_are_found(code, expected):
    assert sorted(draws_of(ast.parse(code))) == sorted(expected)
