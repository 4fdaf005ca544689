# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.queue_base import QueueBase as QueueBase
from mpqueue.compat.functions.queues import FIFOQueue as FIFOQueue
from mpqueue.compat.functions.queues import PaddingFIFOQueue as PaddingFIFOQueue
from mpqueue.compat.functions.queues import RandomShuffleQueue as RandomShuffleQueue

__all__ = ["FIFOQueue", "PaddingFIFOQueue", "QueueBase", "RandomShuffleQueue"]
