"""Serialized Examples to arrays."""

import mpqueue
from golden.decoding import arguments, check
from golden.values import assert_same


def run(case, folder):
    args = arguments(case)
    function = getattr(mpqueue, case["op"])
    check(case, lambda: function(**args), check_result)
    if "outputs" in case["expect"]:
        check_static_shapes(function(**args), case["expect"]["static_shapes"])


def check_result(result, expected):
    assert set(result) == set(expected["outputs"])
    for key, output in expected["outputs"].items():
        assert_same(result[key], output, where=key)


def check_static_shapes(result, static_shapes):
    """What was known before running holds for the arrays."""
    for key, shape in static_shapes.items():
        got = getattr(result[key], "shape", ())
        assert len(got) == len(shape)
        assert all(size in (None, known) for size, known in zip(shape, got, strict=True))
