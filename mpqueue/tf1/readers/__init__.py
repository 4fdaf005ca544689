"""TensorFlow 1's readers of files, and the file functions.

From the ground up::

    failures.py         what the system says about a file, as OpErrors
    opening.py          names to open files: local paths, os.PathLike, fsspec URLs
    file_systems.py     the file system that a name belongs to, with fsspec's methods
    inflating.py        GZIP and ZLIB
    block_buffer.py     the part of a file that is in memory
    options.py          TFRecordOptions
    tfrecord.py         a TFRecord file cut into records
    writing.py          TFRecordWriter
    files.py            read_file, matching_files
    state.py            what a reader's serialized state holds
    base.py             ReaderBase, what all readers share
    file_records.py     what readers of several records per file share
    fixed.py records.py text.py whole.py     the readers
"""

from mpqueue.tf1.readers.base import ReaderBase
from mpqueue.tf1.readers.files import matching_files, read_file
from mpqueue.tf1.readers.fixed import FixedLengthRecordReader
from mpqueue.tf1.readers.records import TFRecordReader
from mpqueue.tf1.readers.text import TextLineReader
from mpqueue.tf1.readers.whole import IdentityReader, WholeFileReader

__all__ = [
    "FixedLengthRecordReader",
    "IdentityReader",
    "ReaderBase",
    "TFRecordReader",
    "TextLineReader",
    "WholeFileReader",
    "matching_files",
    "read_file",
]
