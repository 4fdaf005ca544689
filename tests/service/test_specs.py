"""Specs sent to consumers: they arrive unchanged, and invalid ones are rejected."""

import contextlib
import importlib.util
import json
import os
import pickle
import time
from typing import NamedTuple

import numpy as np
import pytest
from helpers.batch_trees import laid_out as in_layout
from helpers.batch_trees import layouts, trees
from helpers.damaged_bytes import bent, edits
from helpers.sweeps import part_of
from helpers.traced_memory import allocates_less_than
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpqueue.errors import ServiceError
from mpqueue.memory.layout import NodeKind, Recorded, array_specs, flatten, spec_of
from mpqueue.service.protocol.specs import MAX_SPEC_BYTES, decode_spec, encode_spec
from mpqueue.transport.records import ProtocolError

quick = {"suppress_health_check": list(HealthCheck)}


def spec_of_tree(tree):
    return spec_of(flatten(tree, [], []), [])


def decoded(body, is_pickled=False):
    return decode_spec(body, is_pickled, allow_pickle=False)


class Pair(NamedTuple):
    left: object
    right: object


@settings(max_examples=part_of(200, 4), **quick)
@given(trees, layouts)
def test_spec_of_any_tree_is_decoded_unchanged(tree, layout):
    """Including types of keys that compare equal."""
    spec = spec_of_tree(in_layout(tree, layout))
    body, is_pickled = encode_spec(spec)
    result = decode_spec(body, is_pickled, allow_pickle=True)
    assert result == spec
    assert repr(result) == repr(spec)
    assert isinstance(result, tuple)
    if not is_pickled:
        assert decoded(body) == spec


@pytest.mark.parametrize("dtype", ["?", "u8", ">i2", "g", "D", "M8[ns]", "m8[25s]", "M8", "S0", ">U5", "V8"])
def test_ordinary_arrays_need_no_pickle(dtype):
    tree = {"x": np.zeros((2, 3), dtype), None: [None, (np.zeros(4, dtype, order="F"),)], -0.5: {"a": "text"}}
    for key in (1, True):
        part = {key: {1.5: ()}, **tree}
        spec = spec_of_tree(part)
        body, is_pickled = encode_spec(spec)
        assert not is_pickled
        assert decoded(body) == spec
        assert [node[1].str for node in array_specs(decoded(body))] == [node[1].str for node in array_specs(spec)]


UNUSUAL = {
    "structured": np.zeros(3, [("a", "f4"), ("b", "i2", (2,))]),
    "metadata": np.zeros(3, np.dtype("f4", metadata={"unit": "m"})),
    "nan": {float("nan"): np.zeros(1)},
    "infinite": {float("inf"): np.zeros(1)},
    "large": {1 << 64: np.zeros(1)},
    "text that is none": {"\ud800\udc00": np.zeros(1)},
    "tuple": {(1, 2): np.zeros(1)},
    "bytes": {b"a": np.zeros(1)},
    "str of its own": {np.str_("a"): np.zeros(1)},
    "record": Recorded(Pair, None, (np.zeros(1), None)),
}
if importlib.util.find_spec("ml_dtypes"):
    import ml_dtypes

    UNUSUAL |= {"bfloat16": np.zeros(3, ml_dtypes.bfloat16), "float8": np.zeros(3, ml_dtypes.float8_e4m3fn)}


@pytest.mark.parametrize("name", UNUSUAL)
def test_spec_without_json_form_is_a_pickle_loaded_only_if_allowed(name):
    spec = spec_of_tree(UNUSUAL[name])
    body, is_pickled = encode_spec(spec)
    assert is_pickled
    result = decode_spec(body, True, allow_pickle=True)
    assert repr(result) == repr(spec)
    with pytest.raises(ServiceError, match=r"can run arbitrary code.*allow_pickle=True"):
        decode_spec(body, True, allow_pickle=False)


def test_forbidden_pickle_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    for is_pickled in (True, False):
        with pytest.raises((ServiceError, ProtocolError)):
            decode_spec(pickle.dumps(Bomb()), is_pickled, allow_pickle=False)
    assert not (tmp_path / "it ran").exists()


def test_classes_of_main_script_are_pickled_by_value():
    namespace = {"__name__": "__main__", "NamedTuple": NamedTuple}
    exec("class Local(NamedTuple):\n    x: object", namespace)
    spec = (NodeKind.RECORD, (namespace["Local"], None), (NodeKind.ARRAY, np.dtype("f4"), 1, False))
    body, is_pickled = encode_spec(spec)
    assert is_pickled
    assert decode_spec(body, True, allow_pickle=True)[1][0].__name__ == "Local"


@pytest.mark.parametrize("spec", [b"nonsense", pickle.dumps(()), pickle.dumps((99,)), pickle.dumps([1])])
def test_pickle_of_another_object_is_refused(spec):
    with pytest.raises(ProtocolError):
        decode_spec(spec, True, allow_pickle=True)


def nested(depth):
    tree = np.zeros(1)
    for _ in range(depth):
        tree = [tree]
    return tree


@pytest.mark.parametrize("depth", [63, 64, 65, 300])
def test_deeply_nested_trees_arrive(depth):
    spec = spec_of_tree(nested(depth))
    body, is_pickled = encode_spec(spec)
    assert is_pickled == (depth > 64)
    assert decode_spec(body, is_pickled, allow_pickle=True) == spec


@pytest.mark.slow
def test_too_large_structure_raises_error_with_size():
    spec = (NodeKind.LIST, *[(NodeKind.ARRAY, np.dtype("f4"), 1, False)] * 400_000)
    with pytest.raises(ServiceError, match=r"must have at most 4,194,304 bytes, got [\d,]+: use fewer arrays"):
        encode_spec(spec)


WRONG = [
    b"", b"\xff", b"{}", b"[]", b"[6]", b"[true]", b"[0,0]", b"[1]", b'[1,"<f4",-1,0]', b'[1,"<f4",65,0]',
    b'[1,"<f4",1.0,0]', b'[1,"<f4",1,2]', b'[1,"<f4",1,true]', b'[1,"|O",1,0]', b'[1,"f4,O",1,0]', b'[1,"(9,9)f4",1,0]',
    b'[1,"<f3",1,0]', b'[1,"<U999999999",1,0]', b'[1,"|S4294967300",1,0]', b'[1,"<U1073741825",1,0]', b'[1,"<f04",1,0]',
    b'[1,"<M8[foo]",1,0]',
    b'[1,"<f\xd9\xa4",1,0]',  # a digit, but not in ASCII
    b'[1,["<f4"],1,0]', b"[4]", b'[4,"a",[0]]', b'[4,["a"]]', b"[4,[1,true],[0],[0]]", b"[4,[NaN],[0]]", b"[4,[[1]],[0]]",
    b"[4,[18446744073709551616],[0]]", b"[2,[0],[7]]", b"[2," * 66 + b"[0]" + b"]" * 66, b"[2," * 100_000,
    b" " * (MAX_SPEC_BYTES + 1), b'[1,"' + b"x" * 1_000_000 + b'",1,0]',
]  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.parametrize("body", WRONG, ids=lambda body: repr(body[:30]))
def test_invalid_spec_raises_short_protocol_error(body):
    with pytest.raises(ProtocolError) as caught:
        decoded(body)
    assert len(str(caught.value)) < 300


json_nodes = st.recursive(
    st.integers(-1, 7) | st.booleans() | st.none() | st.sampled_from(["<f4", "|O", "a"]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=15,
).map(lambda node: json.dumps(node).encode())
plain = [b'[2,[1,"<f4",2,0],[4,["a",1],[3,[0],[5]],[1,"|S5",0,1]]]', b'[1,"<M8[ns]",1,0]']


@settings(max_examples=part_of(400, 4), **quick)
@given(st.binary(max_size=100) | st.sampled_from(plain) | json_nodes, st.integers(0, 100), edits)
def test_random_truncated_and_mutated_bytes_are_decoded_or_invalid(body, length, edits):
    for damaged in (body, body[:length], bent(body, edits), bent(body, edits)[:length]):
        try:
            spec = decoded(damaged)
        except ProtocolError:
            continue
        assert not any(node[1].hasobject for node in array_specs(spec))
        again, is_pickled = encode_spec(spec)
        assert decode_spec(again, is_pickled, allow_pickle=True) == spec


BYTES = MAX_SPEC_BYTES // 8


@pytest.mark.sample(1)
@pytest.mark.parametrize("body", [b"[" * BYTES, b"[2" + b",[0]" * (BYTES // 4 - 2) + b"]"], ids=["nested", "wide"])
def test_spec_needs_memory_in_proportion_to_its_size(body):
    with allocates_less_than(64 * BYTES), contextlib.suppress(ProtocolError):
        decoded(body)


@pytest.mark.measures
def test_largest_spec_takes_time_proportional_to_its_size():
    def spent_s(num_bytes):
        body = b"[2" + b",[0]" * (num_bytes // 4 - 2) + b"]"
        before = time.process_time()
        with contextlib.suppress(ProtocolError):
            decoded(body)
        return time.process_time() - before

    assert spent_s(MAX_SPEC_BYTES) < 40 * spent_s(MAX_SPEC_BYTES // 10)
