"""TensorFlow 1's names, for programs that compute with NumPy: those of ``tf.train``, and those of ``tf`` itself.

The code is in `mpqueue.tf1`. Scripts that build a graph import `mpqueue.compat.v1` instead.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue.tf1 import root
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
    from mpqueue.tf1.root import (
        FIFOQueue,
        FixedLenFeature,
        FixedLengthRecordReader,
        FixedLenSequenceFeature,
        IdentityReader,
        PaddingFIFOQueue,
        QueueBase,
        RandomShuffleQueue,
        ReaderBase,
        Session,
        Source,
        SparseTensorValue,
        TextLineReader,
        TFRecordReader,
        VarLenFeature,
        WholeFileReader,
        connect,
        decode_csv,
        decode_json_example,
        decode_raw,
        get_default_session,
        local_variables_initializer,
        matching_files,
        parse_example,
        parse_single_example,
        parse_single_sequence_example,
        placeholder,
        placeholder_with_default,
        read_file,
        reset_default_graph,
        run,
        sparse_placeholder,
    )

__all__ = [
    "BytesList",
    "Coordinator",
    "Example",
    "FIFOQueue",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "FixedLengthRecordReader",
    "FloatList",
    "IdentityReader",
    "Int64List",
    "LooperThread",
    "PaddingFIFOQueue",
    "QueueBase",
    "QueueRunner",
    "QueueRunnerDef",
    "RandomShuffleQueue",
    "ReaderBase",
    "SequenceExample",
    "Session",
    "Source",
    "SparseTensorValue",
    "TFRecordReader",
    "TextLineReader",
    "VarLenFeature",
    "WholeFileReader",
    "add_queue_runner",
    "batch",
    "batch_join",
    "connect",
    "decode_csv",
    "decode_json_example",
    "decode_raw",
    "get_default_session",
    "get_queue_runners",
    "input_producer",
    "limit_epochs",
    "local_variables_initializer",
    "match_filenames_once",
    "matching_files",
    "parse_example",
    "parse_single_example",
    "parse_single_sequence_example",
    "placeholder",
    "placeholder_with_default",
    "range_input_producer",
    "read_file",
    "reset_default_graph",
    "run",
    "shuffle_batch",
    "shuffle_batch_join",
    "slice_input_producer",
    "sparse_placeholder",
    "start_queue_runners",
    "string_input_producer",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The messages need protobuf, extra [tfrecord]; queues and readers import much. Both are loaded on first use.
    home = "root" if name in root.__all__ else "parsing.example"
    return getattr(import_module(f"mpqueue.tf1.{home}"), name)
