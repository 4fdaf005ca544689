"""TensorFlow 1's readers of files, and its file functions.

From the bottom layer up::

    failures.py         errors of the operating system as `OpError`
    opening.py          opens files: local paths, os.PathLike, fsspec URLs
    file_systems.py     the file system of a name, with fsspec's methods
    inflating.py        GZIP and ZLIB
    block_buffer.py     a window over a file
    options.py          TFRecordOptions
    tfrecord.py         splits a TFRecord file into records
    writing.py          TFRecordWriter
    files.py            read_file, matching_files
    state.py            serialized state of a reader
    base.py             ReaderBase, the base class of all readers
    file_records.py     base class of readers with several records per file
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
