"""JSON texts to serialized Examples."""

import numpy as np

import mpqueue
import mpqueue.train
from golden.decoding import arguments, check
from golden.values import assert_same, encode

DIFFERENCES = {"s019": "a feature of null is written with an empty value"}


def run(case, folder):
    args = arguments(case)
    is_exact = case["id"].partition("/")[2] not in DIFFERENCES

    def check_result(result, expected):
        assert list(np.shape(result)) == expected["shape"]
        records = [result] if isinstance(result, bytes) else result.ravel().tolist()
        assert [parsed(record) for record in records] == expected["parsed"]
        if "output" in expected and is_exact:
            assert_same(result, expected["output"])

    check(case, lambda: mpqueue.decode_json_example(**args), check_result)


def parsed(record):
    """The features of a serialized Example in the form of the cases."""
    features = mpqueue.train.Example.FromString(record).features.feature
    return {key: described(feature) for key, feature in features.items()}


def described(feature):
    kind = feature.WhichOneof("kind")
    if kind is None:
        return {"kind": None}
    values = list(getattr(feature, kind).value)
    return {"kind": kind.removesuffix("_list"), "values": encode(np.array(values, dtype=object))["data"]}
