"""The names of tf.train, eager."""

from mpqueue.coordinator import Coordinator
from mpqueue.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
from mpqueue.train.looper import LooperThread
from mpqueue.train.queue_runner import QueueRunner
from mpqueue.train.queue_runner_def import QueueRunnerDef

__all__ = [
    "Coordinator",
    "LooperThread",
    "QueueRunner",
    "QueueRunnerDef",
    "add_queue_runner",
    "get_queue_runners",
    "start_queue_runners",
]
