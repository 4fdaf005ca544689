"""The names of tf.train, eager."""

from mpqueue.coordinator import Coordinator
from mpqueue.train.batching import batch, batch_join, shuffle_batch, shuffle_batch_join
from mpqueue.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
from mpqueue.train.epochs import limit_epochs
from mpqueue.train.looper import LooperThread
from mpqueue.train.matching import match_filenames_once
from mpqueue.train.producers import input_producer, range_input_producer, slice_input_producer, string_input_producer
from mpqueue.train.queue_runner import QueueRunner
from mpqueue.train.queue_runner_def import QueueRunnerDef

__all__ = [
    "Coordinator",
    "LooperThread",
    "QueueRunner",
    "QueueRunnerDef",
    "add_queue_runner",
    "batch",
    "batch_join",
    "get_queue_runners",
    "input_producer",
    "limit_epochs",
    "match_filenames_once",
    "range_input_producer",
    "shuffle_batch",
    "shuffle_batch_join",
    "slice_input_producer",
    "start_queue_runners",
    "string_input_producer",
]
