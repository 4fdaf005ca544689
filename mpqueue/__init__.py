"""mpqueue feeds training loops from worker processes through shared memory.

The map of the house, from the ground up; imports point downwards only::

    errors.py            every public exception
    memory/              the data plane: segment, slots, layout, leases, in-slot allocation
    control/             the control plane: records, channels, schedule, dispatcher
    workers/             nursery, worker loop, backends (process, thread, inline), exceptions across processes
    sequence.py enqueuers.py loader.py coordinator.py    what users of fit loops hold
    queues/ readers/ parsing/ train/ compat/             the TensorFlow 1 toolbox
    keras.py             one thin file per framework, imported only on request

Public is what ``__all__`` here, ``mpqueue.errors``, ``mpqueue.train``, ``mpqueue.compat.v1`` and the
one-framework modules export; everything else may change.
"""

from mpqueue import errors, python_io
from mpqueue.coordinator import Coordinator
from mpqueue.queues import (
    FIFOQueue,
    PaddingFIFOQueue,
    QueueBase,
    RandomShuffleQueue,
    Session,
    Source,
    get_default_session,
    reset_default_graph,
)
from mpqueue.readers import (
    FixedLengthRecordReader,
    IdentityReader,
    ReaderBase,
    TextLineReader,
    TFRecordReader,
    WholeFileReader,
    matching_files,
    read_file,
)
from mpqueue.train.collections import add_queue_runner, get_queue_runners, start_queue_runners
from mpqueue.train.local_variables import local_variables_initializer
from mpqueue.train.placeholders import placeholder, placeholder_with_default, run, sparse_placeholder

__version__ = "0.1.0"

__all__ = [
    "Coordinator",
    "FIFOQueue",
    "FixedLengthRecordReader",
    "IdentityReader",
    "PaddingFIFOQueue",
    "QueueBase",
    "RandomShuffleQueue",
    "ReaderBase",
    "Session",
    "Source",
    "TFRecordReader",
    "TextLineReader",
    "WholeFileReader",
    "__version__",
    "add_queue_runner",
    "errors",
    "get_default_session",
    "get_queue_runners",
    "local_variables_initializer",
    "matching_files",
    "placeholder",
    "placeholder_with_default",
    "python_io",
    "read_file",
    "reset_default_graph",
    "run",
    "sparse_placeholder",
    "start_queue_runners",
]
