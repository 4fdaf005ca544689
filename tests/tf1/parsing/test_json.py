"""JSON Examples, read by protobuf's `json_format`."""

import pytest
from helpers.example_encoding import block, entry, example, int64_list

import mpqueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.train import Example

ONE = '{"int64List":{"value":[1]}}'


def of(value, kind="int64List"):
    return f'{{"features":{{"feature":{{"a":{{"{kind}":{{"value":{value}}}}}}}}}}}'


def values(text):
    feature = Example.FromString(mpqueue.decode_json_example(text)).features.feature["a"]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int64List", '[1, "-9223372036854775808", 1.0, 2e3]', [1, -(1 << 63), 1, 2000]),
        ("int64_list", "[]", []),
        ("floatList", '[1.5, "2", "-Infinity", -1e3]', [1.5, 2.0, float("-inf"), -1000.0]),
        ("bytesList", '["eA==", "eA", "-_8=", "+/8", ""]', [b"x", b"x", b"\xfb\xff", b"\xfb\xff", b""]),
    ],
)
def test_values_are_read(kind, value, expected):
    assert values(of(value, kind)) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("int64List", value) for value in ("[1.5]", "[true]", '["x"]', f"[{1 << 63}]", "[null]")),
        *(("floatList", value) for value in ("[1e39]", '["x"]')),
        *(("bytesList", value) for value in ('["@@@"]', '["eA==="]', '["e"]', "[1]")),
    ],
)
def test_invalid_value_is_rejected(kind, value):
    with pytest.raises(InvalidArgumentError, match="record 0 is not an Example in JSON"):
        mpqueue.decode_json_example(of(value, kind))


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{} x",
        b"\xff",
        "{'features': {}}",
        '{"features": {},}',
        of("1"),
        '{"x": 1}',
        '{"features": {"feature": {"a": {"int64List": {}, "floatList": {}}}}}',
        '{"features": {}, "features": {}}',
        f'{{"features": {{"feature": {{"a": {ONE}, "a": {ONE}}}}}}}',
        of("[" * 10**5 + "1" + "]" * 10**5),
    ],
    ids=lambda text: text[:40],
)
def test_invalid_example_is_rejected(text):
    with pytest.raises(InvalidArgumentError, match="record 0 is not an Example in JSON"):
        mpqueue.decode_json_example(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", b""),
        ('{"features":null}', b""),
        ('{"features":{"feature":null}}', block(0x0A, b"")),
        ('{"features":{"feature":{"a":{"int64List":null}}}}', example(entry(b"a", b""))),
        ('{"features":{"feature":{"a":null}}}', example(entry(b"a", b""))),
        (of("[1, 2]"), example(entry(b"a", int64_list(1, 2, packed=False)))),
    ],
)
def test_messages_are_written_with_unpacked_lists(text, expected):
    assert mpqueue.decode_json_example(text) == expected


def test_shape_is_kept():
    decoded = mpqueue.decode_json_example([["{}", of("[1]")]])
    assert decoded.shape == (1, 2)
    assert decoded.tolist() == [[b"", example(entry(b"a", int64_list(1, packed=False)))]]


def test_input_that_is_not_a_string_is_rejected():
    with pytest.raises(TypeError, match="json_examples must be bytes or str"):
        mpqueue.decode_json_example([1])
