# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.train.runners import QueueRunner as QueueRunner
from mpqueue.compat.train.runners import add_queue_runner as add_queue_runner
from mpqueue.compat.train.runners import start_queue_runners as start_queue_runners

__all__ = ["QueueRunner", "add_queue_runner", "start_queue_runners"]
