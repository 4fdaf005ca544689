"""The names of tf.train, eager."""

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

# They need protobuf, extra [tfrecord]: loaded on first use.
_MESSAGES = {
    "BytesList",
    "Example",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FloatList",
    "Int64List",
    "SequenceExample",
}


def __getattr__(name: str) -> Any:
    if name not in _MESSAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("mpqueue.parsing.example"), name)
