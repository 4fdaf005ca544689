# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.coordinator import Coordinator as Coordinator
from mpqueue.train.looper import LooperThread as LooperThread

__all__ = ["Coordinator", "LooperThread"]
