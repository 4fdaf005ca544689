"""What the topics of decoders share: a call, and its outcome against the expected one."""

import pytest

import mpqueue
from golden.outcomes import error_class
from golden.values import assert_same, decode

_KINDS = {
    "FixedLen": lambda spec: mpqueue.FixedLenFeature(spec["shape"], spec["dtype"], decode(spec["default"])),
    "VarLen": lambda spec: mpqueue.VarLenFeature(spec["dtype"]),
    "FixedLenSequence": lambda spec: mpqueue.FixedLenSequenceFeature(
        spec["shape"], spec["dtype"], spec["allow_missing"], decode(spec["default"])
    ),
}


def arguments(case):
    """Return the arguments of a case as Python values, including arrays in lists."""
    args = {
        name: [decode(item) for item in value] if name == "record_defaults" else decode(value)
        for name, value in case["args"].items()
    }
    if "features" in args:
        args["features"] = {key: _KINDS[spec["kind"]](spec) for key, spec in case["args"]["features"].items()}
    return args


def check(case, call, check_result, error_name=None):
    """Call, and compare the error, or hand the result over."""
    expected = case["expect"]
    if "error" not in expected:
        check_result(call(), expected)
        return
    with pytest.raises(error_class(error_name or expected["error"])) as caught:
        call()
    for word in expected.get("mentions", []):
        assert word in str(caught.value), f"{word!r} is not mentioned: {caught.value}"


def check_outputs(outputs, expected):
    """A list of columns, in their order."""
    assert isinstance(outputs, list)
    assert_same(outputs, {"list": expected["outputs"]})
