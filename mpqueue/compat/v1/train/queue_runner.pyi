# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1.train import start_queue_runners as start_queue_runners
from mpqueue.tf1.compat.train.runners import QueueRunner as QueueRunner
from mpqueue.tf1.compat.train.runners import add_queue_runner as add_queue_runner

__all__ = [
    "QueueRunner", "add_queue_runner", "start_queue_runners",
]  # fmt: skip
