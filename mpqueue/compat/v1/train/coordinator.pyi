# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.coordinator import Coordinator as Coordinator
from mpqueue.tf1.train.looper import LooperThread as LooperThread

__all__ = [
    "Coordinator", "LooperThread",
]  # fmt: skip
