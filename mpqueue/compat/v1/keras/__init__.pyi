# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.v1.keras import utils as utils

__all__ = ["utils"]
