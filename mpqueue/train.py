"""TensorFlow 1's names, for programs that compute with NumPy: those of ``tf.train``, and those of ``tf`` itself.

The code is in `mpqueue.tf1`. Scripts that build a graph import `mpqueue.compat.v1` instead.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue.tf1 import root
from mpqueue.tf1.train.batching import batch, batch_join, shuffle_batch, shuffle_batch_join
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
    from mpqueue.tf1.root import *  # noqa: F403 - by `__all__`

__all__ = [
    "BytesList",
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
    "batch",
    "batch_join",
    "input_producer",
    "limit_epochs",
    "match_filenames_once",
    "range_input_producer",
    "shuffle_batch",
    "shuffle_batch_join",
    "slice_input_producer",
    "string_input_producer",
]
__all__ += root.__all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        from mpqueue.tf1.compat.names import hint_of_missing

        hint = hint_of_missing(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint and f': {hint}'}")
    # The messages need protobuf, extra [tfrecord]; queues and readers import much. Both are loaded on first use.
    home = "root" if name in root.__all__ else "parsing.example"
    return getattr(import_module(f"mpqueue.tf1.{home}"), name)
