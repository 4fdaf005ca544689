# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import global_variables_initializer as global_variables
from mpqueue.compat.v1 import initialize_all_tables as tables_initializer
from mpqueue.compat.v1 import initialize_local_variables as local_variables
from mpqueue.compat.v1 import initialize_variables as variables
from mpqueue.tf1.compat.functions.initializers import constant_initializer as constant
from mpqueue.tf1.compat.functions.initializers import glorot_uniform_initializer as glorot_uniform
from mpqueue.tf1.compat.functions.initializers import ones_initializer as ones
from mpqueue.tf1.compat.functions.initializers import random_normal_initializer as random_normal
from mpqueue.tf1.compat.functions.initializers import random_uniform_initializer as random_uniform
from mpqueue.tf1.compat.functions.initializers import truncated_normal_initializer as truncated_normal
from mpqueue.tf1.compat.functions.initializers import zeros_initializer as zeros

__all__ = [
    "constant", "global_variables", "glorot_uniform", "local_variables", "ones", "random_normal", "random_uniform",
    "tables_initializer", "truncated_normal", "variables", "zeros",
]  # fmt: skip
