# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1.keras import utils as utils

__all__ = [
    "utils",
]  # fmt: skip
