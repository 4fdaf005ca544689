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


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * MAX_BYTES,
        b"{}",
        b'"' + b"x" * MAX_BYTES + b'"',
        *(encoded(shared_name=name) for name in ("", None)),
        *(encoded(class_name=name) for name in ("PriorityQueue", "Description")),
        *(encoded(dtypes=dtypes) for dtypes in ([], "float32")),
        *(encoded(dtypes=["float32", dtype]) for dtype in ("nothing", "f4,f4", "object", 5)),
        encoded(shapes=[[2, 3]]),
        *(encoded(shapes=[[2, 3], shape]) for shape in ([-1], [True], [None], None, 4, [2**21, 2**21])),
        encoded(class_name="PaddingFIFOQueue", shapes=[[2, 3], None]),
        *(encoded(capacity=capacity) for capacity in (-2, 1.5, 2**200)),
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
