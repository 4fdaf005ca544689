# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.functions.queue_base import QueueBase as QueueBase
from mpqueue.tf1.compat.functions.queues import FIFOQueue as FIFOQueue
from mpqueue.tf1.compat.functions.queues import PaddingFIFOQueue as PaddingFIFOQueue
from mpqueue.tf1.compat.functions.queues import RandomShuffleQueue as RandomShuffleQueue

__all__ = [
    "FIFOQueue", "PaddingFIFOQueue", "QueueBase", "RandomShuffleQueue",
]  # fmt: skip
