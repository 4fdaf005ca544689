# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import as_string as as_string
from mpqueue.compat.v1 import reduce_join as reduce_join
from mpqueue.compat.v1 import regex_replace as regex_replace
from mpqueue.compat.v1 import string_join as join
from mpqueue.compat.v1 import string_strip as strip
from mpqueue.compat.v1 import string_to_hash_bucket_fast as to_hash_bucket_fast
from mpqueue.compat.v1 import string_to_number as to_number
from mpqueue.compat.v1 import substr as substr
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.graph.sparse import SparseTensor
from typing import Any

__all__ = [
    "as_string", "join", "length", "lower", "reduce_join", "regex_full_match", "regex_replace", "split", "strip",
    "substr", "to_hash_bucket_fast", "to_number", "upper",
]  # fmt: skip

def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor: ...
def lower(input: Any, encoding: str = "", name: str | None = None) -> Tensor: ...
def regex_full_match(input: Any, pattern: Any, name: str | None = None) -> Tensor: ...
def upper(input: Any, encoding: str = "", name: str | None = None) -> Tensor: ...
def split(
    input: Any = None,
    sep: Any = None,
    maxsplit: int = -1,
    result_type: str = "SparseTensor",
    source: Any = None,
    name: str | None = None,
) -> SparseTensor: ...
