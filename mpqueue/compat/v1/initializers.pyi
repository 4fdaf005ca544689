# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.initializers import constant_initializer as constant
from mpqueue.compat.functions.initializers import glorot_uniform_initializer as glorot_uniform
from mpqueue.compat.functions.initializers import ones_initializer as ones
from mpqueue.compat.functions.initializers import random_normal_initializer as random_normal
from mpqueue.compat.functions.initializers import random_uniform_initializer as random_uniform
from mpqueue.compat.functions.initializers import truncated_normal_initializer as truncated_normal
from mpqueue.compat.functions.initializers import zeros_initializer as zeros
from mpqueue.compat.functions.variables import global_variables_initializer as global_variables
from mpqueue.compat.functions.variables import local_variables_initializer as local_variables
from mpqueue.compat.functions.variables import tables_initializer as tables_initializer
from mpqueue.compat.functions.variables import variables_initializer as variables

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
