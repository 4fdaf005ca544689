# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.random import random_normal as normal
from mpqueue.compat.functions.random import random_shuffle as shuffle
from mpqueue.compat.functions.random import random_uniform as uniform
from mpqueue.compat.functions.random import set_random_seed as set_random_seed
from mpqueue.compat.functions.random import truncated_normal as truncated_normal

__all__ = ["normal", "set_random_seed", "shuffle", "truncated_normal", "uniform"]
