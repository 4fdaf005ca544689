"""The names of tf.train, eager.

From the ground up::

    arrays.py               values that stand where TensorFlow has tensors
    local_variables.py      what local_variables_initializer resets
    matching.py             match_filenames_once
    epochs.py               limit_epochs
    placeholders.py         placeholder, and run, which feeds it
    holding.py              what a source holds: queues, counts of epochs, placeholders
    looper.py               LooperThread
    record_runs.py source_runs.py   enqueue ops in runs of records, and those of sources of records
    process_op.py           an enqueue op in a worker process
    queue_runner_def.py     QueueRunnerDef, a queue runner by names
    queue_runner.py         QueueRunner
    collections.py          the queue runners that start_queue_runners starts
    examples.py             one Source of examples, made of the tensors of a batching function
    producers.py            string_input_producer and the other producers
    batch_op.py             the next batch, called or iterated
    inputs.py               the inputs of a batch, with its queue and runner: the body of both faces
    batching.py             batch, batch_join, shuffle_batch, shuffle_batch_join
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue.coordinator import Coordinator
from mpqueue.train.batching import batch, batch_join, shuffle_batch, shuffle_batch_join
from mpqueue.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
from mpqueue.train.epochs import limit_epochs
from mpqueue.train.looper import LooperThread
from mpqueue.train.matching import match_filenames_once
from mpqueue.train.producers import input_producer, range_input_producer, slice_input_producer, string_input_producer
from mpqueue.train.queue_runner import QueueRunner
from mpqueue.train.queue_runner_def import QueueRunnerDef

if TYPE_CHECKING:
    from mpqueue.parsing.example import BytesList as BytesList
    from mpqueue.parsing.example import Example as Example
    from mpqueue.parsing.example import Feature as Feature
    from mpqueue.parsing.example import FeatureList as FeatureList
    from mpqueue.parsing.example import FeatureLists as FeatureLists
    from mpqueue.parsing.example import Features as Features
    from mpqueue.parsing.example import FloatList as FloatList
    from mpqueue.parsing.example import Int64List as Int64List
    from mpqueue.parsing.example import SequenceExample as SequenceExample

__all__ = [
    "BytesList",
    "Coordinator",
    "Example",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FloatList",
    "Int64List",
    "LooperThread",
    "QueueRunner",
    "QueueRunnerDef",
    "SequenceExample",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The messages alone are missing: they need protobuf, extra [tfrecord], and are loaded on first use.
    return getattr(import_module("mpqueue.parsing.example"), name)
