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
    "matching_files",
    "python_io",
    "read_file",
    "reset_default_graph",
    "start_queue_runners",
]
