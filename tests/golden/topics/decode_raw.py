"""Bytes that are the memory of numbers."""

import mpqueue
from golden.decoding import arguments, check
from golden.values import assert_same

DIFFERENCES = {
    "s020": "NumPy has no bfloat16: its name gives float32 of the same values, ml_dtypes.bfloat16 gives that dtype",
}


def run(case, folder):
    args = arguments(case)
    check(case, lambda: mpqueue.decode_raw(**args), check_result)


def check_result(result, expected):
    output = expected["output"]
    if output["dtype"] == "bfloat16":
        output = {**output, "dtype": "float32"}
    assert_same(result, output)
