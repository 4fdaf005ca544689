# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import flags as flags
from mpqueue.tf1.compat.program.flags import run as run

__all__ = [
    "flags", "run",
]  # fmt: skip
