# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.train.runners import QueueRunner as QueueRunner
from mpqueue.tf1.compat.train.runners import add_queue_runner as add_queue_runner
from mpqueue.tf1.coordinator import Coordinator
from threading import Thread
from typing import Any

__all__ = ["QueueRunner", "add_queue_runner", "start_queue_runners"]

def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = "queue_runners",
) -> list[Thread]: ...
