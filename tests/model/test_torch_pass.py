"""The model of a pass of a torch `DataLoader` returns the stock loader's batches; the player tries mpqueue's loaders."""

import pytest
from model import torch_real
from model.torch_pass import Setup, passes

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
    kept = torch_real.numbers()
    yield
    torch_real.set_numbers(kept)


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: f"{setup.kind}-{setup.sampler[0]}-{setup.num_workers}")
def test_stock_loader_returns_the_passes_of_the_model(setup):
    namespace, found = {}, []
    exec("\n".join([*torch_real.head("stock"), *torch_real.lines(setup, "stock")]), namespace)
    for number in range(2):
        if setup.sampler[0] == "distributed":
            namespace["sampler"].set_epoch(number)
        found.append([torch_real.rows(batch) for batch in namespace["loader"]])
    assert found == passes(setup, 2)
