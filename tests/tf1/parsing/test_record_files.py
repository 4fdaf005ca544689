"""`mpqueue.files.TFRecord` parses records written by this API like `parse_single_example`."""

import numpy as np
import pytest

import mpqueue
from mpqueue import files, python_io, train

FEATURES = {
    "label": train.FixedLenFeature([], "int64"),
    "weight": train.FixedLenFeature([], "float32", 0.5),
    "image": train.FixedLenFeature([2, 2], np.float32),
    "name": train.FixedLenFeature([], "string"),
    "words": train.VarLenFeature("string"),
    "boxes": train.FixedLenSequenceFeature([2], "int64", allow_missing=True),
}


def example(number):
    found = train.Example()
    feature = found.features.feature
    feature["label"].int64_list.value.append(number)
    if number % 2:
        feature["weight"].float_list.value.append(number)
    feature["image"].float_list.value.extend([number, 1, 2, 3])
    feature["name"].bytes_list.value.append(b"n%d\0" % number)
    feature["words"].bytes_list.value.extend([b"w"] * (number % 3))
    feature["boxes"].int64_list.value.extend([number] * (2 * (number % 4)))
    return found.SerializeToString()


def plain(sample):
    return {
        key: (getattr(value, "dtype", None), np.shape(value), np.array(value).tolist()) for key, value in sample.items()
    }


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_written_records_are_parsed_equally(tmp_path, compression):
    path = str(tmp_path / "a.tfrecord")
    written = [example(number) for number in range(50)]
    with python_io.TFRecordWriter(path, compression) as writer:
        for record in written:
            writer.write(record)
    assert list(files.TFRecord(path, index=tmp_path / "kept")) == written
    samples = files.TFRecord(path, features=FEATURES, index=tmp_path / "kept").__getitems__(range(50))
    for sample, record in zip(samples, written, strict=True):
        expected = mpqueue.parse_single_example(record, FEATURES)
        expected["words"] = expected["words"].values
        assert plain(sample) == plain(expected)
