"""Typical calls of every reader, record file and file function, checked by mypy and never run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mpqueue
from mpqueue import python_io


class Words(mpqueue.ReaderBase):
    def __init__(self) -> None:
        super().__init__(reader_ref="words", supports_serialize=False)

    def _on_work_start(self, work: bytes) -> None:
        self.words = iter(work.split())

    def _read(self) -> tuple[bytes, bytes] | None:
        word = next(self.words, None)
        return None if word is None else (b"word", word)


def read() -> None:
    queue = mpqueue.FIFOQueue(10, ["string"], [()])
    options = python_io.TFRecordOptions(python_io.TFRecordCompressionType.GZIP, compression_level=9)
    readers: list[mpqueue.ReaderBase] = [
        Words(),
        mpqueue.TextLineReader(1, "lines", max_record_bytes=1000),
        mpqueue.WholeFileReader("files", max_record_bytes=1000),
        mpqueue.IdentityReader(name="units"),
        mpqueue.TFRecordReader("records", options, max_record_bytes=1000),
        mpqueue.TFRecordReader(options="ZLIB"),
        mpqueue.FixedLengthRecordReader(10, 4, 4, 20, "GZIP", "rows"),
    ]
    for reader in readers:
        key, value = reader.read(queue, timeout=1.5)
        text: bytes = key + value
        keys, values = reader.read_up_to(queue, 10, timeout=1.5)
        arrays: list[NDArray[np.object_]] = [keys, values]
        counts: int = reader.num_records_produced() + reader.num_work_units_completed()
        if reader.supports_serialize:
            reader.restore_state(reader.serialize_state())
        sources: list[mpqueue.Source] = [reader.read_op(queue), reader.read_up_to_op(queue, 10)]
        reader.reset()
        del text, arrays, counts, sources


def write() -> None:
    with python_io.TFRecordWriter(Path("train.tfrecord"), "GZIP") as writer:
        writer.write(b"record")
        writer.write("text")
        writer.flush()
    writer.close()
    records: list[bytes] = list(python_io.tf_record_iterator("train.tfrecord", "GZIP", max_record_bytes=1000))
    del records


def find() -> None:
    names: NDArray[np.object_] = mpqueue.matching_files(["*.txt", Path("folder") / "*"])
    content: bytes = mpqueue.read_file(names[0]) + mpqueue.read_file("memory://file")
    del content
