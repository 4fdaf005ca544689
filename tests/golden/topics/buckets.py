"""Batches of samples of similar lengths, as ``bucket_by_sequence_length`` makes them."""

import numpy as np
import pytest
from helpers.stage_inputs import Samples, drain, lane_run

from golden.values import assert_same
from mpqueue import Dataset
from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.transformations.bucket import BucketNode, BucketStage

DIFFERENCES = {
    "s005": "one bucket is an error: that is what batch is for",
    "s024": "boundaries that do not ascend are an error, in place of buckets that nothing comes into",
    "s025": "as s024",
}


def make(kind, number, length):
    numbers = np.arange(1, length + 1) + 100 * number
    match kind:
        case "int32":
            return numbers.astype(np.int32)
        case "float32":
            return (numbers / 8).astype(np.float32)
        case "bool":
            return numbers % 2 == 0
        case "string":
            return np.array([b"%d" % each for each in numbers], "S")
        case "matrix":
            return np.repeat(numbers[:, None], 1 + number % 3, 1)
        case "tuple":
            return numbers.astype(np.int32), np.float32(number)
    return {"ids": numbers, "mask": np.ones(length, bool), "label": number, "pair": np.array([number, number + 1.0])}


def length_of(sample):
    if isinstance(sample, dict):
        return len(sample["ids"])
    return len(sample[0] if isinstance(sample, tuple) else sample)


def run(case, folder):
    args, expected = case["args"], case["expect"]
    if case["id"].rpartition("/")[2] in DIFFERENCES or "error" in expected:
        with pytest.raises(ValueError, match="bucket"):
            Dataset([]).bucket(len, args["boundaries"], args["batch_sizes"])
        return
    samples = [make(case["sample"], index, length) for index, length in enumerate(case["lengths"])]
    node = BucketNode.reading(
        [SourceNode(source=samples)], length_of=length_of, boundaries=args["boundaries"],
        batch_sizes=args["batch_sizes"], drop_last=args["drop_remainder"],
    )  # fmt: skip
    stage = BucketStage(Samples(samples), node, lane_run())
    batches, _ = drain(stage)
    assert len(batches) == len(expected["batches"])
    for index, (batch, same) in enumerate(zip(batches, expected["batches"], strict=True)):
        assert_same(batch, same, where=f"batch {index}")
