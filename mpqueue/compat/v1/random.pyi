# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.graph.nodes import Tensor
from typing import Any

__all__ = ["normal", "set_random_seed", "shuffle", "truncated_normal", "uniform"]

def set_random_seed(seed: int) -> None: ...
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
def shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor: ...
def uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
