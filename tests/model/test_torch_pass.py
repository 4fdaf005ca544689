"""The model of a pass of a torch `DataLoader` returns the stock loader's batches, and so do mpqueue's loaders."""

import contextlib
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from model import torch_real
from model.torch_pass import Setup, passes, rest

import mpqueue.torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:This DataLoader will create:UserWarning", "ignore::DeprecationWarning", "ignore:.set_vital"
    ),
]
SAMPLERS = [
    ("sequential",), ("random", False, None), ("random", False, 25), ("random", True, 70), ("subset", [5, 2, 2, 9]),
    ("weighted", [1.5, 2, 0.25, 1, 1, 3, 1, 2, 1, 1, 4], 9, False), ("weighted", [2, 1] * 5 + [9], 30, True),
    ("distributed", 1, 3, True, 4, False), ("distributed", 2, 3, True, 0, True), ("distributed", 0, 2, False, 0, False),
    ("batches", [[3, 1], [0], [4, 4, 2], [5, 3]]), ("held", ("a.b", "a/b")),
]  # fmt: skip
SETUPS = [
    Setup(11, kind, 3 if sampler[0] != "batches" else 1, sampler=sampler, generator_seed=generator, num_workers=workers, seed=7)
    for sampler in SAMPLERS
    for kind, generator, workers in [("map", None, 0), ("getitems", 5, 0), ("map", None, 2), ("getitems", 5, 1)]
]  # fmt: skip
SETUPS += [
    Setup(length, kind, size, drop_last, generator_seed=generator, num_workers=workers, persistent=workers == 2, init_draws=1)
    for kind in ("map", "iterable", "stateful iterable", "own iterable")
    for length, size, drop_last, generator, workers in [
        (8, None, False, 3, 0), (10, 4, True, None, 0), (11, None, False, None, 2), (13, 3, True, 4, 2), (7, 2, False, 4, 3),
        (1, 2, False, None, 2),
    ]
]  # fmt: skip


@pytest.fixture(autouse=True)
def states():
    """Keep the generators of other tests."""
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(kept[0]), random.setstate(kept[1]), np.random.set_state(kept[2])


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: f"{setup.kind}-{setup.sampler[0]}-{setup.num_workers}")
def test_stock_loader_returns_the_passes_of_the_model(setup):
    namespace, found = {}, []
    exec("\n".join([*torch_real.head("stock"), *torch_real.lines(setup, "stock")]), namespace)
    for number in range(2):
        if setup.sampler[0] == "distributed":
            namespace["sampler"].set_epoch(number)
        found.append([torch_real.rows(batch) for batch in namespace["loader"]])
    assert found == passes(setup, 2)


def test_a_state_continues_after_the_returned_batches():
    found = [["a", "b", "c"], ["d"]]
    assert rest(found, 0, 2) == [["c"], ["d"]]
    assert rest(found, 0, 3) == [[], ["d"]]
    assert rest(found, 0, 3, is_over=True) == [["d"]]


def drawn_setup(chosen):
    """Return a random setup of a loader of mpqueue."""
    length, workers, size = chosen.randint(1, 16), chosen.randrange(4), chosen.choice([None, 1, 2, 3, 5])
    kind = chosen.choice(["map", "map", "getitems", "iterable", "stateful iterable"])
    indices = chosen.choices(range(length), k=chosen.randint(1, 12))
    sampler = chosen.choice([
        ("sequential",), ("random", False, None), ("random", False, length + 3), ("random", True, 9), ("subset", indices),
        ("weighted", [1 + index % 3 for index in range(length)], 7, True), ("distributed", chosen.randrange(2), 2, True, 4, False),
        ("distributed", 1, 2, False, 0, length > 3), ("batches", [indices[:3], indices]),
    ]) if "iterable" not in kind else ("sequential",)  # fmt: skip
    size = 1 if sampler[0] == "batches" else size
    return Setup(
        length, kind, size, size is not None and sampler[0] != "batches" and chosen.random() < 0.3, sampler,
        chosen.choice([None, 5]), workers, workers > 0 and chosen.random() < 0.4, chosen.randrange(9),
        init_draws=chosen.randrange(2), excluded=tuple(indices[:2]) if "iterable" not in kind and chosen.random() < 0.3 else (),
    )  # fmt: skip


def generators(saved=None):
    """Return the states of the program's generators, or restore them."""
    if saved is None:
        return torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.set_rng_state(saved[0]), random.setstate(saved[1]), np.random.set_state(saved[2])
    return saved


def opened(setup, kind):
    namespace = {}
    exec("\n".join([*torch_real.head(kind, installs=False), *torch_real.lines(setup, kind)]), namespace)
    return namespace


def begun(namespace, setup, number):
    if setup.sampler[0] == "distributed":
        namespace["sampler"].set_epoch(number)
    return iter(namespace["loader"])


def check_positions(loader, batches, number, last, position, workers):
    """Check the answers of a loader about its last batch, and about any batch of the same pass."""
    ids = [tuple(key for key, *_ in batch) for batch in batches]
    assert (loader.last.epoch, loader.last.batch, loader.last.samples) == (number, last, ids[last])
    assert loader.explain(number, position).samples == ids[position]
    if workers:
        assert torch_real.rows(loader.compute(number, position)) == batches[position]


@pytest.mark.parametrize("seed", range(60))
def test_loader_of_mpqueue_returns_the_passes_of_the_model_and_resumes_anywhere(seed):
    chosen = random.Random(seed)
    setup = drawn_setup(chosen)
    # torchdata replaces the random sampler of a loader without workers by its own.
    is_replaced = setup.sampler[0] == "random" and not setup.num_workers
    kind = chosen.choice(["torch", "installed"] + ["stateful"] * (not is_replaced))
    expected = passes(setup, 4, "torch")
    number = chosen.randrange(3)
    most = len(expected[number])
    # Without workers, an iterable without a state draws again up to its place.
    taken = chosen.randint(most if setup.kind == "iterable" and not setup.num_workers else 0, most)
    is_over = taken == len(expected[number]) and chosen.random() < 0.5
    others = chosen.randint(1, 3) if setup.num_workers and "iterable" not in setup.kind else setup.num_workers
    with mpqueue.torch.install() if kind != "torch" else contextlib.nullcontext():
        space = opened(setup, kind)
        for each in range(number):
            assert [torch_real.rows(batch) for batch in begun(space, setup, each)] == expected[each]
        batches = begun(space, setup, number) if taken or chosen.random() < 0.5 else iter(())
        assert [torch_real.rows(next(batches)) for _ in range(taken)] == expected[number][:taken]
        if taken and not setup.is_iterable and not setup.excluded:
            check_positions(
                space["loader"], expected[number], number, taken - 1, chosen.randrange(most), setup.num_workers
            )
        assert not is_over or next(batches, None) is None
        state, saved = json.loads(json.dumps(space["loader"].state_dict())), generators()
        resumed = replace(
            setup, num_workers=others, seed=setup.seed + 1, generator_seed=setup.generator_seed and 9, excluded=()
        )
        space = opened(resumed, kind)
        space["loader"].load_state_dict(state)
        generators(saved)
        for each, wanted in enumerate(rest(expected, number, taken, is_over=is_over), number + is_over):
            # The state of a pass has the epoch of its sampler.
            batches = iter(space["loader"]) if each == number and taken else begun(space, setup, each)
            assert [torch_real.rows(batch) for batch in batches] == wanted
