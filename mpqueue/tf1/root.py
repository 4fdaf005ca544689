"""The names of TensorFlow 1's ``tf`` namespace, which `mpqueue.train` and `mpqueue` load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqueue.examples.features import FixedLenFeature, FixedLenSequenceFeature, VarLenFeature
    from mpqueue.tf1.coordinator import Coordinator
    from mpqueue.tf1.parsing.csv import decode_csv
    from mpqueue.tf1.parsing.json_example import decode_json_example
    from mpqueue.tf1.parsing.parse import parse_example, parse_single_example
    from mpqueue.tf1.parsing.raw import decode_raw
    from mpqueue.tf1.parsing.sequence import parse_single_sequence_example
    from mpqueue.tf1.queues import (
        FIFOQueue,
        PaddingFIFOQueue,
        QueueBase,
        RandomShuffleQueue,
        Session,
        Source,
        get_default_session,
        reset_default_graph,
    )
    from mpqueue.tf1.readers import (
        FixedLengthRecordReader,
        IdentityReader,
        ReaderBase,
        TextLineReader,
        TFRecordReader,
        WholeFileReader,
        matching_files,
        read_file,
    )
    from mpqueue.tf1.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
    from mpqueue.tf1.train.local_variables import local_variables_initializer
    from mpqueue.tf1.train.placeholders import placeholder, placeholder_with_default, run, sparse_placeholder
    from mpqueue.values.sparse import SparseTensorValue

_HOMES = {
    "tf1.coordinator": ("Coordinator",),
    "tf1.queues": (
        "FIFOQueue",
        "PaddingFIFOQueue",
        "QueueBase",
        "RandomShuffleQueue",
        "Session",
        "Source",
        "get_default_session",
        "reset_default_graph",
    ),
    "tf1.readers": (
        "FixedLengthRecordReader",
        "IdentityReader",
        "ReaderBase",
        "TFRecordReader",
        "TextLineReader",
        "WholeFileReader",
        "matching_files",
        "read_file",
    ),
    "tf1.parsing.csv": ("decode_csv",),
    "examples.features": ("FixedLenFeature", "FixedLenSequenceFeature", "VarLenFeature"),
    "tf1.parsing.json_example": ("decode_json_example",),
    "tf1.parsing.parse": ("parse_example", "parse_single_example"),
    "tf1.parsing.raw": ("decode_raw",),
    "tf1.parsing.sequence": ("parse_single_sequence_example",),
    "values.sparse": ("SparseTensorValue",),
    "tf1.train.collections": ("add_queue_runner", "get_queue_runners", "start_queue_runners"),
    "tf1.train.local_variables": ("local_variables_initializer",),
    "tf1.train.placeholders": ("placeholder", "placeholder_with_default", "run", "sparse_placeholder"),
}
_HOME_OF = {name: directory for directory, names in _HOMES.items() for name in names}

__all__ = [
    "Coordinator",
    "FIFOQueue",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "FixedLengthRecordReader",
    "IdentityReader",
    "PaddingFIFOQueue",
    "QueueBase",
    "RandomShuffleQueue",
    "ReaderBase",
    "Session",
    "Source",
    "SparseTensorValue",
    "TFRecordReader",
    "TextLineReader",
    "VarLenFeature",
    "WholeFileReader",
    "add_queue_runner",
    "decode_csv",
    "decode_json_example",
    "decode_raw",
    "get_default_session",
    "get_queue_runners",
    "local_variables_initializer",
    "matching_files",
    "parse_example",
    "parse_single_example",
    "parse_single_sequence_example",
    "placeholder",
    "placeholder_with_default",
    "read_file",
    "reset_default_graph",
    "run",
    "sparse_placeholder",
    "start_queue_runners",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"mpqueue.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
