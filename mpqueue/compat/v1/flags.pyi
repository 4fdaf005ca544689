# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.program.flags import DEFINE_enum as DEFINE_enum
from mpqueue.tf1.compat.program.flags import DuplicateFlagError as DuplicateFlagError
from mpqueue.tf1.compat.program.flags import Error as Error
from mpqueue.tf1.compat.program.flags import FLAGS as FLAGS
from mpqueue.tf1.compat.program.flags import FlagValues as FlagValues
from mpqueue.tf1.compat.program.flags import IllegalFlagValueError as IllegalFlagValueError
from typing import Any

__all__ = [
    "DEFINE_bool", "DEFINE_boolean", "DEFINE_enum", "DEFINE_float", "DEFINE_integer", "DEFINE_list",
    "DEFINE_multi_float", "DEFINE_multi_integer", "DEFINE_multi_string", "DEFINE_string", "DuplicateFlagError", "Error",
    "FLAGS", "FlagValues", "IllegalFlagValueError", "mark_flag_as_required", "mark_flags_as_required",
]  # fmt: skip

def DEFINE_bool(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...

DEFINE_boolean = DEFINE_bool

def DEFINE_float(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_integer(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_list(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_multi_float(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_multi_integer(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_multi_string(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def DEFINE_string(
    name: str | None = None,
    default: Any = None,
    help: str | None = None,
    *,
    flag_name: str | None = None,
    default_value: Any = None,
    docstring: str | None = None,
    **options: Any,
) -> Any: ...
def mark_flag_as_required(flag_name: Any, flag_values: Any = ...) -> Any: ...
def mark_flags_as_required(flag_names: Any, flag_values: Any = ...) -> Any: ...
