"""The names of tf.train, eager; the code is in `mpqueue.tf1.train`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.train.batching import batch, batch_join, shuffle_batch, shuffle_batch_join
from mpqueue.tf1.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
from mpqueue.tf1.train.epochs import limit_epochs
from mpqueue.tf1.train.looper import LooperThread
from mpqueue.tf1.train.matching import match_filenames_once
from mpqueue.tf1.train.producers import (
    input_producer,
    range_input_producer,
    slice_input_producer,
    string_input_producer,
)
from mpqueue.tf1.train.queue_runner import QueueRunner
from mpqueue.tf1.train.queue_runner_def import QueueRunnerDef

if TYPE_CHECKING:
    from mpqueue.tf1.parsing.example import (
        BytesList,
        Example,
        Feature,
        FeatureList,
        FeatureLists,
        Features,
        FloatList,
        Int64List,
        SequenceExample,
    )

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
    return getattr(import_module("mpqueue.tf1.parsing.example"), name)
