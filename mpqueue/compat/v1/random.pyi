# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import random_normal as normal
from mpqueue.compat.v1 import random_shuffle as shuffle
from mpqueue.compat.v1 import random_uniform as uniform
from mpqueue.compat.v1 import set_random_seed as set_random_seed
from mpqueue.compat.v1 import truncated_normal as truncated_normal

__all__ = [
    "normal", "set_random_seed", "shuffle", "truncated_normal", "uniform",
]  # fmt: skip
