"""Options of the types of NumPy make the same states as those of Python.

In NumPy 1, a scalar that meets a Python number may become a float64, and in NumPy 2 the `repr` of a scalar is different.
Golden data has the orders and states themselves (`golden/test_released.py`).
"""

import json

import numpy as np
import pytest

import mpqueue
from mpqueue import Balance, Dataset

pytestmark = pytest.mark.sample(2)

LENGTHS = (np.arange(301) * 7919 % 211 + 1).astype(np.int64)


def is_kept(number):
    return np.bool_(number % 3 > 0)


def of_samples(**options):
    return range(301), {"batch_size": 4, **options}


def by_sampler(kind, keys):
    return {key: index for index, key in enumerate(keys)}, {"batch_size": 2, "sampler": list(map(kind, keys))}


# Each is called with Python's types, and with the types of NumPy.
SETTINGS = {
    "integers": lambda i, f, b, s: of_samples(batch_size=i(5), shuffle=b(True), drop_last=b(True)),
    "blocks": lambda i, f, b, s: (Dataset.range(i(301)).shuffle(block=i(9), blocks=i(2)).batch(i(5)), {}),
    "balance": lambda i, f, b, s: of_samples(balance=Balance(LENGTHS, steps=i(2), accumulate=i(3))),
    "group": lambda i, f, b, s: of_samples(balance=Balance(LENGTHS, group=i(2))),
    "max_cost": lambda i, f, b, s: of_samples(drop_last=b(True), balance=Balance(LENGTHS, max_cost=f(300))),
    "stream": lambda i, f, b, s: (
        Dataset.range(i(301)).filter(is_kept).shuffle(buffer=i(9)).batch(i(4), drop_last=b(True)),
        {"lanes": i(4), "epoch_batches": i(9)},
    ),
    "weights": lambda i, f, b, s: (
        Dataset.mix(
            {s("a"): Dataset.range(301), s("b"): Dataset.range(9)}, stop=s("all"),
            weights=[(i(0), {s("a"): f(0.3), s("b"): f(0.7)}), (i(20), {s("a"): f(1), s("b"): i(1)})],
        ),
        {},
    ),
    "initial state": lambda i, f, b, s: (Dataset.range(9).scan((i(0), [f(0.5)], s("a")), lambda state, n: (state, n)), {}),
    "names": lambda i, f, b, s: (
        Dataset.range(9).filter(is_kept).map(lambda n: {"a": n, "b": n}).select_columns([s("a")]), {},
    ),
    "keys of strings": lambda i, f, b, s: by_sampler(s, ["one", "two", "three", "four"]),
    "keys of floats": lambda i, f, b, s: by_sampler(f, [0.5, 1.0, 2.5]),
    "keys of tuples": lambda i, f, b, s: by_sampler(lambda key: (i(key[0]), s(key[1])), [(0, "one"), (1, "two"), (2, "three")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_numpy_make_the_same_state(name):
    states = []
    for types in ((int, float, bool, str), (np.int64, np.float64, np.bool_, np.str_)):
        source, options = SETTINGS[name](*types)
        with mpqueue.Loader(source, seed=3, workers=0, **options) as loader:
            next(iter(loader))
            state = loader.state_dict()
        # When snapshots of lanes are taken depends on the time, and a scan keeps the types of its state.
        of_lanes = {"counts", "starts", "checksum"}
        states.append(json.dumps({key: value for key, value in state.items() if key not in of_lanes}))
    assert states[0] == states[1]
