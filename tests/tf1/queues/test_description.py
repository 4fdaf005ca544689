"""Queues as plain data: invalid descriptions are rejected."""

import json

import numpy as np
import pytest

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.description import MAX_BYTES, Description, Signature

FLOAT, TEXT = np.dtype("float32"), "string"
GOOD = Description("jobs", Signature("FIFOQueue", (FLOAT, TEXT), ((2, 3), ()), 10))


def encoded(**changes):
    return json.dumps(json.loads(GOOD.encode()) | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * MAX_BYTES,
        b"{}",
        b'"' + b"x" * MAX_BYTES + b'"',
        encoded(shared_name=""),
        encoded(shared_name=None),
        encoded(class_name="PriorityQueue"),
        encoded(class_name="Description"),
        encoded(dtypes=[]),
        encoded(dtypes="float32"),
        encoded(dtypes=["float32", "nothing"]),
        encoded(dtypes=["float32", "f4,f4"]),
        encoded(dtypes=["float32", "object"]),
        encoded(dtypes=["float32", 5]),
        encoded(shapes=[[2, 3]]),
        encoded(shapes=[[2, 3], [-1]]),
        encoded(shapes=[[2, 3], [True]]),
        encoded(shapes=[[2, 3], [None]]),
        encoded(shapes=[[2, 3], None]),
        encoded(shapes=[[2, 3], 4]),
        encoded(shapes=[[2, 3], [2**21, 2**21]]),
        encoded(class_name="PaddingFIFOQueue", shapes=[[2, 3], None]),
        encoded(capacity=-2),
        encoded(capacity=1.5),
        encoded(capacity=2**200),
        encoded(class_name="RandomShuffleQueue", capacity=5, min_after_dequeue=5),
        encoded(min_after_dequeue=-1),
        encoded(seed="x"),
    ],
    ids=lambda data: data[-40:],
)
def test_invalid_description_is_rejected(data):
    with pytest.raises(InvalidArgumentError, match="Invalid description of a queue"):
        Description.decode(data)


def test_too_long_names_are_rejected_by_the_sender():
    with pytest.raises(InvalidArgumentError, match="shorter names"):
        GOOD._replace(shared_name="x" * MAX_BYTES).encode()
