"""Typical calls of every decoder, checked by mypy and never run."""

from typing import Any

import numpy as np

import mpqueue
from mpqueue import train


def decode(records: list[bytes]) -> None:
    columns: list[Any] = mpqueue.decode_csv(
        records, [[0.0], [1], ["none"]], ";", use_quote_delim=False, name="csv", na_value="NA", select_cols=[0, 2, 5]
    )
    pixels: np.ndarray[Any, Any] = mpqueue.decode_raw(records, np.uint8, little_endian=False, fixed_length=784)
    serialized: Any = mpqueue.decode_json_example('{"features": {}}')
    del columns, pixels, serialized


def parse(records: list[bytes]) -> None:
    features: dict[str, Any] = {
        "image": mpqueue.FixedLenFeature([], "string"),
        "label": mpqueue.FixedLenFeature([], np.int64, default_value=-1),
        "words": mpqueue.VarLenFeature("string"),
        "boxes": mpqueue.FixedLenSequenceFeature([4], "float32", allow_missing=True, default_value=0.0),
    }
    batch: dict[Any, Any] = mpqueue.parse_example(records, features, example_names=["a", "b"])
    one: dict[Any, Any] = mpqueue.parse_single_example(records[0], features, example_names="a")
    words: mpqueue.SparseTensorValue = batch["words"]
    context, lists = mpqueue.parse_single_sequence_example(records[0], {"label": features["label"]}, None, "a")
    del one, words, context, lists


def write() -> bytes:
    example = train.Example()
    example.features.feature["label"].int64_list.value.append(3)
    serialized: bytes = example.SerializeToString()
    return serialized
