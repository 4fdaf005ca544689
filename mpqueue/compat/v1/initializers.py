"""The names of ``tf.initializers``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.initializers": (
            "constant=constant_initializer glorot_uniform=glorot_uniform_initializer ones=ones_initializer "
            "random_normal=random_normal_initializer random_uniform=random_uniform_initializer "
            "truncated_normal=truncated_normal_initializer zeros=zeros_initializer"
        ),
        "mpqueue.compat.functions.variables": (
            "global_variables=global_variables_initializer local_variables=local_variables_initializer "
            "tables_initializer variables=variables_initializer"
        ),
    },
    prefix="tf.initializers",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
