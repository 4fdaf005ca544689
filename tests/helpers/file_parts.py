"""The parts inside the sources of `mpqueue.files`, for tests that damage files or look at a scan."""

from functools import partial

from mpqueue.files import json_lines, tfrecord
from mpqueue.files.sources.unpacked import compression_of
from mpqueue.files.sources.unpacked_source import scan_unpacked

find_lines = json_lines._lines
TFRECORD_SCAN = partial(
    scan_unpacked, folder="", compression_of=tfrecord._compression, find=partial(tfrecord._records, True), more_bytes=4
)
JSON_SCAN = partial(scan_unpacked, folder="", compression_of=compression_of, find=find_lines)


def offsets_of(source):
    """Return where the messages or samples of a source begin, by its index."""
    return source._index["offsets"]


def arrays_of(rows):
    """Return the arrays that rows of a table keep in memory."""
    return rows._arrays


def path_of(writer):
    """Return the path of the index file that a writer writes."""
    return writer._path


def decoded_sample(source, number, start, data):
    """Return the sample that a source of MDS shards decodes from bytes, by the number of its shard and its place."""
    return source._decoded_sample(number, start, data)
