# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from collections.abc import Iterable
from mpqueue.tf1.compat.functions.initializers import constant_initializer as constant
from mpqueue.tf1.compat.functions.initializers import glorot_uniform_initializer as glorot_uniform
from mpqueue.tf1.compat.functions.initializers import ones_initializer as ones
from mpqueue.tf1.compat.functions.initializers import random_normal_initializer as random_normal
from mpqueue.tf1.compat.functions.initializers import random_uniform_initializer as random_uniform
from mpqueue.tf1.compat.functions.initializers import truncated_normal_initializer as truncated_normal
from mpqueue.tf1.compat.functions.initializers import zeros_initializer as zeros
from mpqueue.tf1.compat.functions.variables import Variable
from mpqueue.tf1.compat.graph.nodes import Operation

__all__ = [
    "constant",
    "global_variables",
    "glorot_uniform",
    "local_variables",
    "ones",
    "random_normal",
    "random_uniform",
    "tables_initializer",
    "truncated_normal",
    "variables",
    "zeros",
]

def tables_initializer(name: str = "init_all_tables") -> Operation: ...
def global_variables() -> Operation: ...
def local_variables() -> Operation: ...
def variables(var_list: Iterable[Variable], name: str = "init") -> Operation: ...
