"""TensorFlow 1's readers of files, and the file functions.

From the ground up::

failures.py       what the system says about a file, as OpErrors
opening.py        names -> open files: local paths, os.PathLike, fsspec URLs
inflating.py      GZIP and ZLIB
block_buffer.py   the part of a file that is in memory
tfrecord.py text.py fixed.py      files cut into records
base.py state.py  what all readers share
file_records.py records.py whole.py      the readers
options.py writing.py iterating.py       TFRecord files without a reader (`mpqueue.python_io`)
files.py          read_file, matching_files
"""

from mpqueue.readers.base import ReaderBase
from mpqueue.readers.files import matching_files, read_file
from mpqueue.readers.fixed import FixedLengthRecordReader
from mpqueue.readers.records import TFRecordReader
from mpqueue.readers.text import TextLineReader
from mpqueue.readers.whole import IdentityReader, WholeFileReader

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
