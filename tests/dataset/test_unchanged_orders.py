"""Orders and states are equal with all versions of NumPy, so that a run can be resumed after an upgrade.

In NumPy 1, a scalar that meets a Python number may become a float64, and in NumPy 2 the `repr` of a scalar is different.
"""

import hashlib
import itertools
import json
import random

import numpy as np
import pytest

import mpqueue
from mpqueue import Balance, Dataset

pytestmark = pytest.mark.sample(2)

LENGTHS = (np.arange(301) * 7919 % 211 + 1).astype(np.int64)


class Grouped:
    def group_sizes(self):
        return np.array([40, 7, 0, 130, 24, 100], np.uint16)

    def __len__(self):
        return 301

    def __getitem__(self, index):
        return index


def is_kept(number):
    return np.bool_(number % 3 > 0)


def draw(number):
    return [
        number, int(mpqueue.rng().integers(1 << 40)), random.getrandbits(40), int(np.random.randint(1 << 40)),
    ]  # fmt: skip


def in_blocks(length, block, blocks):
    return Dataset.range(length).shuffle(block=block, blocks=blocks)


def of_samples(**options):
    return range(301), {"batch_size": 4, **options}


# The digests of the batches of two epochs, from both of two ranks.
UNCHANGED = {
    "batches": (lambda: ([[n] for n in range(301)], {"shuffle": True}), "db5bae6a3937"),
    "samples": (lambda: of_samples(shuffle=True), "be871697a28c"),
    "many samples": (lambda: (Dataset.range(70_001).shuffle().take(301), {}), "d50d3cc27b54"),
    "batches of blocks": (lambda: (in_blocks(301, 7, 3).batch(4), {}), "944824cd8ef7"),
    "a single short block": (lambda: (in_blocks(301, 400, 2), {}), "1920e74912ab"),
    "blocks without a short one": (lambda: (in_blocks(301, 7, 5), {}), "791eadae52c9"),
    "blocks": (lambda: (in_blocks(301, 9, 5), {}), "5c99be501223"),
    "large groups": (lambda: (in_blocks(300_001, 1_000, 300).take(301), {}), "824debdc257f"),
    "many blocks": (lambda: (in_blocks(300_001, 4, 3).take(301), {}), "098601e051e0"),
    "uneven blocks": (lambda: (Dataset(Grouped()).shuffle(block="group", blocks=2), {}), "19a6772b97b5"),
    "shuffle buffer": (lambda: (Dataset.range(301).filter(is_kept).shuffle(buffer=50), {"epoch_batches": 90}), "b7abb9954d65"),
    "mix": (lambda: (Dataset.mix([in_blocks(200, 30, 2), Dataset.range(500, 700)], weights=[1, 2]), {}), "d53be5714496"),
    "mix with left-over places": (
        lambda: (Dataset.mix([Dataset.range(200).shuffle(), Dataset.range(500, 700)], weights=[0.3173, np.pi]), {}), "37b0c5fcaeeb",
    ),
    "mix of streams": (
        lambda: (Dataset.mix([Dataset.range(200).filter(is_kept), in_blocks(200, 9, 2)], weights=[1, 2]), {"epoch_batches": 90}), "99b7e3aa0d43",
    ),
    "split": (lambda: (Dataset.range(301).split([0.25, 0.75], seed=5)[1].shuffle(), {}), "4c77744593eb"),
    "balance": (lambda: of_samples(shuffle=True, balance=Balance(LENGTHS, steps=3)), "cdad066a8d15"),
    "balance of fractions": (lambda: of_samples(shuffle=True, balance=Balance(LENGTHS / 7, accumulate=2)), "0969e2d8ab75"),
    "balance of sorted steps": (lambda: of_samples(shuffle=True, balance=Balance(LENGTHS, group=5)), "3ab22d16e726"),
    "micro-batches": (
        lambda: of_samples(shuffle=True, drop_last=True, balance=Balance(LENGTHS, max_cost=300)), "949ede01bd40",
    ),
    "drawn numbers": (lambda: (Dataset.range(60).shuffle().map(draw), {}), "7e3e84309643"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCHANGED)
def test_order_is_the_same_with_all_versions_of_numpy(name):
    make, expected = UNCHANGED[name]
    digest = hashlib.sha256()
    for rank in range(2):
        source, options = make()
        with mpqueue.Loader(source, seed=8_000_318, workers=0, shard=(rank, 2), **options) as loader:
            for batch in itertools.chain(loader, loader):
                parts = batch if isinstance(batch, list) else [batch]  # a step is a list of micro-batches
                digest.update(b"".join(np.asarray(part, np.int64).tobytes() for part in parts))
    assert digest.hexdigest()[:12] == expected


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


@pytest.mark.parametrize("flag", [True, np.True_])
def test_bools_are_not_integers(flag):
    for refused in (
        lambda: Dataset.range(9).batch(flag),
        lambda: mpqueue.Loader(range(9), batch_size=flag),
        lambda: Balance(LENGTHS, steps=flag),
        lambda: Dataset.range(9).shuffle(block=flag),
        lambda: Dataset.range(9).take(flag),
    ):
        with pytest.raises(TypeError, match="must be an integer"):
            refused()
