"""Typical calls of every reader, decoder, record file and file function, checked by mypy and never run."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import mpqueue
from mpqueue import python_io, train


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
        assert_type(key + value, bytes)
        keys, values = reader.read_up_to(queue, 10, timeout=1.5)
        assert_type([keys, values], list[NDArray[np.object_]])
        assert_type(reader.num_records_produced() + reader.num_work_units_completed(), int)
        if reader.supports_serialize:
            reader.restore_state(reader.serialize_state())
        assert_type([reader.read_op(queue), reader.read_up_to_op(queue, 10)], list[mpqueue.Source])
        reader.reset()


def write() -> None:
    with python_io.TFRecordWriter(Path("train.tfrecord"), "GZIP") as writer:
        writer.write(b"record")
        writer.write("text")
        writer.flush()
    writer.close()
    assert_type(list(python_io.tf_record_iterator("train.tfrecord", "GZIP", max_record_bytes=1000)), list[bytes])


def find() -> None:
    names: NDArray[np.object_] = mpqueue.matching_files(["*.txt", Path("folder") / "*"])
    assert_type(mpqueue.read_file(names[0]) + mpqueue.read_file("memory://file"), bytes)


def decode(records: list[bytes]) -> None:
    columns: list[Any] = mpqueue.decode_csv(
        records, [[0.0], [1], ["none"]], ";", use_quote_delim=False, name="csv", na_value="NA", select_cols=[0, 2, 5]
    )
    pixels: np.ndarray[Any, Any] = mpqueue.decode_raw(records, np.uint8, little_endian=False, fixed_length=784)
    assert_type(mpqueue.decode_json_example('{"features": {}}'), Any)
    del columns, pixels


def parse(records: list[bytes]) -> None:
    features: dict[str, Any] = {
        "image": mpqueue.FixedLenFeature([], "string"),
        "label": mpqueue.FixedLenFeature([], np.int64, default_value=-1),
        "words": mpqueue.VarLenFeature("string"),
        "boxes": mpqueue.FixedLenSequenceFeature([4], "float32", allow_missing=True, default_value=0.0),
    }
    batch: dict[Any, Any] = mpqueue.parse_example(records, features, example_names=["a", "b"])
    assert_type(mpqueue.parse_single_example(records[0], features, example_names="a"), dict[Any, Any])
    words: mpqueue.SparseTensorValue = batch["words"]
    context, lists = mpqueue.parse_single_sequence_example(records[0], {"label": features["label"]}, None, "a")
    del words, context, lists


def message() -> bytes:
    example = train.Example()
    example.features.feature["label"].int64_list.value.append(3)
    serialized: bytes = example.SerializeToString()
    return serialized
