# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.graph.sparse import SparseTensor
from typing import Any

__all__ = [
    "as_string",
    "join",
    "length",
    "lower",
    "reduce_join",
    "regex_full_match",
    "regex_replace",
    "split",
    "strip",
    "substr",
    "to_hash_bucket_fast",
    "to_number",
    "upper",
]

def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Tensor: ...
def regex_replace(
    input: Any, pattern: Any, rewrite: Any, replace_global: bool = True, name: str | None = None
) -> Tensor: ...
def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor: ...
def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor: ...
def lower(input: Any, encoding: str = "", name: str | None = None) -> Tensor: ...
def regex_full_match(input: Any, pattern: Any, name: str | None = None) -> Tensor: ...
def strip(input: Any, name: str | None = None) -> Tensor: ...
def to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor: ...
def to_number(
    string_tensor: Any | None = None, out_type: Any = ..., name: str | None = None, input: Any = None
) -> Tensor: ...
def upper(input: Any, encoding: str = "", name: str | None = None) -> Tensor: ...
def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: bool | None = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: Any = None,
) -> Tensor: ...
def join(inputs: Any, separator: str = "", name: str | None = None) -> Tensor: ...
def split(
    input: Any = None,
    sep: Any = None,
    maxsplit: int = -1,
    result_type: str = "SparseTensor",
    source: Any = None,
    name: str | None = None,
) -> SparseTensor: ...
