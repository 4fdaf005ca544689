# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.text import length as length
from mpqueue.compat.functions.text import reduce_join as reduce_join
from mpqueue.compat.functions.text import regex_replace as regex_replace
from mpqueue.compat.functions.text import split as split
from mpqueue.compat.functions.text import string_join as join
from mpqueue.compat.functions.text import string_to_hash_bucket_fast as to_hash_bucket_fast
from mpqueue.compat.functions.text import string_to_number as to_number
from mpqueue.compat.functions.text import substr as substr
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
    precision: Any = -1,
    scientific: Any = False,
    shortest: Any = False,
    width: Any = -1,
    fill: Any = "",
    name: Any = None,
) -> Any: ...
def lower(input: Any, encoding: Any = "", name: Any = None) -> Any: ...
def regex_full_match(input: Any, pattern: Any, name: Any = None) -> Any: ...
def strip(input: Any, name: Any = None) -> Any: ...
def upper(input: Any, encoding: Any = "", name: Any = None) -> Any: ...
