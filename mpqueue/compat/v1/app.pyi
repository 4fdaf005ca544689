# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.program.flags import run as run
from mpqueue.compat.v1 import flags as flags

__all__ = ["flags", "run"]
