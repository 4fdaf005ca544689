"""Shards: which batches of an epoch belong to a rank, and where it continues."""

import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.computed_source import Computed

import mpqueue
from mpqueue.plan.position.ranks import Shard, shard_of


def test_rank_may_be_any_integer_type():
    shard = shard_of([np.int8(1), np.uint64(3)])
    assert shard == Shard(1, 3)
    assert [type(number) for number in shard] == [int, int]


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of a launcher; no library reports a rank unless the test adds it."""
    for name in ("torch", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def launch(**variables):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    launch()
    return launch


def test_rank_is_read_from_environment_variables(launched):
    assert shard_of("auto") == Shard(0, 1)
    for rank in range(2):
        launched(RANK=str(rank), WORLD_SIZE="2")
        assert shard_of("auto") == Shard(rank, 2)


@pytest.mark.parametrize(
    "variables",
    [{"RANK": "0"}, {"WORLD_SIZE": "2"}, *({"RANK": rank, "WORLD_SIZE": "2"} for rank in ("2", "-1", "one"))],
)
def test_invalid_environment_variables_are_shown(launched, variables):
    launched(**variables)
    with pytest.raises(ValueError, match=r"both, or pass shard=\(rank, world\)$") as caught:
        shard_of("auto")
    assert str(variables) in str(caught.value)


def torch_of(*, is_available=True, is_initialized=True):
    """Return a fake torch in the second of three processes."""
    says = {"is_available": is_available, "is_initialized": is_initialized, "get_rank": 1, "get_world_size": 3}
    return SimpleNamespace(distributed=Mock(**{f"{name}.return_value": value for name, value in says.items()}))


def refuses():
    raise AssertionError("to ask starts the backend")


def jax_of(*, is_initialized):
    """Return a fake jax in the third of four processes, if it is one of several."""
    return SimpleNamespace(
        distributed=SimpleNamespace(is_initialized=lambda: is_initialized),
        process_index=(lambda: 2) if is_initialized else refuses,
        process_count=(lambda: 4) if is_initialized else refuses,
    )


@pytest.mark.parametrize(
    ("module", "found", "expected"),
    [
        ("torch", torch_of(), Shard(1, 3)),
        ("torch", torch_of(is_initialized=False), Shard(5, 6)),
        ("torch", torch_of(is_available=False), Shard(5, 6)),
        ("torch", SimpleNamespace(), Shard(5, 6)),
        ("jax", jax_of(is_initialized=True), Shard(2, 4)),
        ("jax", jax_of(is_initialized=False), Shard(5, 6)),
        ("jax", SimpleNamespace(distributed=SimpleNamespace()), Shard(5, 6)),
        ("jax", SimpleNamespace(), Shard(5, 6)),
    ],
)
def test_rank_of_a_library_takes_precedence_over_environment_variables(launched, monkeypatch, module, found, expected):
    launched(RANK="5", WORLD_SIZE="6")
    monkeypatch.setitem(sys.modules, module, found)
    assert shard_of("auto") == expected


@pytest.mark.parametrize("count", [2**62, 2**62 - 1])  # the second one is filled up
def test_order_of_ranks_uses_no_memory(count):
    source = Computed(int, count)
    with mpqueue.Loader(source, workers=0, shard=(1, 2)) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(3)] == [1, 3, 5]
    with mpqueue.Loader(source, workers=0, shard=(1, 2)) as loader:
        loader.seek(0, 2**61 - 2)
        batches = [batch for batch in loader]  # noqa: C416 - `list` would reserve memory for the length
        assert batches == [2**62 - 3, (2**62 - 1) % count]
