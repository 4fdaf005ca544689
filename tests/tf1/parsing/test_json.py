"""JSON Examples, with results observed in TensorFlow 2.21."""

import json
from pathlib import Path

import pytest
from helpers.encoding import block, bytes_list, entry, example, float_list, int64_list

import mpqueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.train import Example

# Values and the numbers or strings that they stand for, and invalid values, keys and Examples.
CASES = json.loads((Path(__file__).parent / "cases" / "json_examples.json").read_text("utf-8"))
KINDS = ["int64List", "floatList", "bytesList"]
ONE = '{"int64List":{"value":[1]}}'


def of(value, kind="int64List"):
    return f'{{"features":{{"feature":{{"a":{{"{kind}":{{"value":{value}}}}}}}}}}}'


def values(text):
    feature = Example.FromString(mpqueue.decode_json_example(text)).features.feature["a"]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


def assert_refused(text):
    with pytest.raises(InvalidArgumentError, match="record 0 is not"):
        mpqueue.decode_json_example(text)


@pytest.mark.parametrize(("kind", "value", "expected"), [(kind, *case) for kind in KINDS for case in CASES[kind]])
def test_values_are_read(kind, value, expected):
    found = values(of(value, kind))
    assert [one.decode("latin-1") if kind == "bytesList" else one for one in found] == expected


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in KINDS for value in CASES[f"invalid {kind}"]])
def test_invalid_value_is_rejected(kind, value):
    assert_refused(of(value, kind))


def test_nan_keeps_its_sign():
    assert mpqueue.decode_json_example(of('["nan", "-NaN", "nan(1)"]', "floatList")) == example(
        entry(b"a", block(0x12, b"\x0d\0\0\xc0\x7f\x0d\0\0\xc0\xff\x0d\0\0\xc0\x7f"))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", b""),
        (" \n\t\r{ } ", b""),
        ('{"features":null}', b""),
        ("{'features':{}}", block(0x0A, b"")),
        ('{"features":{},"features":{}}', block(0x0A, b"") * 2),
        ('{"features":{"feature":{}},}', block(0x0A, b"")),
        ('{"features":{"feature":null}}', block(0x0A, b"")),
        ('{"features":{"feature":{"a":null}}}', example(block(0x0A, block(0x0A, b"a")))),
        ('{"features":{"feature":{"a":{}}}}', example(entry(b"a", b""))),
        ('{"features":{"feature":{"a":{"int64List":null}}}}', example(entry(b"a", b""))),
        ('{"features":{"feature":{"a":{"int64List":{}}}}}', example(entry(b"a", block(0x1A, b"")))),
        (
            '{"features":{"feature":{"a":{"int64List":{"value":[1],"value":2}}}}}',
            example(entry(b"a", int64_list(1, 2, packed=False))),
        ),
        (
            '{"features":{"feature":{"a":{"int64List":null,"float_list":{"value":[1]}}}}}',
            example(entry(b"a", float_list(1, packed=False))),
        ),
        (
            f'{{features:{{feature:{{_b9:{ONE},"a":{{bytes_list:{{value:["eA=="]}}}},}}}}}}',
            example(entry(b"_b9", int64_list(1, packed=False)), entry(b"a", bytes_list(b"x"))),
        ),
        ('{"\\u0066eatures":{}}', block(0x0A, b"")),
    ],
)
def test_messages_are_written_as_in_tensorflow(text, expected):
    assert mpqueue.decode_json_example(text) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (r"\u00e9", "é"),
        ("é😀", "é😀"),
        (r"\ud83d\ude00", "😀"),
        (r"\u00e9\ud83d\ude00\u0000", "é😀\0"),
        (r"\/\b\f\n\r\t\"\\" + r"\'", "/\b\f\n\r\t\"\\'"),
        ("\n\t\x01", "\n\t\x01"),
        ("a'b", "a'b"),
        ("", ""),
    ],
)
def test_keys_are_unescaped(key, expected):
    text = f'{{"features":{{"feature":{{"{key}":{ONE}}}}}}}'
    assert mpqueue.decode_json_example(text) == example(entry(expected.encode(), int64_list(1, packed=False)))


@pytest.mark.parametrize("key", CASES["invalid keys"])
def test_invalid_escapes_are_rejected(key):
    assert_refused(f'{{"features":{{"feature":{{"{key}":{ONE}}}}}}}')


@pytest.mark.parametrize("text", CASES["invalid examples"])
def test_invalid_example_is_rejected(text):
    assert_refused(text)


@pytest.mark.parametrize("text", [b'{"features":{"feature":{"\xff":{}}}}', b"\xff", b'{"\xed\xa0\x80":{}}'])
def test_invalid_utf8_is_rejected(text):
    assert_refused(text)


@pytest.mark.parametrize(("depth", "fits"), [(95, True), (96, False), (10**5, False)])
def test_nesting_is_bounded(depth, fits):
    text = of("[" * depth + "1" + "]" * depth)
    if fits:
        assert values(text) == [1]
    else:
        assert_refused(text)


def test_error_contains_record_and_position():
    with pytest.raises(
        InvalidArgumentError, match=r"record 1 is not an Example in JSON: it has an unknown field 'x'.* at character 5"
    ):
        mpqueue.decode_json_example(["{}", '{"x":1}'])


def test_shape_is_kept():
    decoded = mpqueue.decode_json_example([["{}", of("[1]")]])
    assert decoded.shape == (1, 2)
    assert decoded.tolist() == [[b"", example(entry(b"a", int64_list(1, packed=False)))]]


def test_input_that_is_not_a_string_is_rejected():
    with pytest.raises(TypeError, match="json_examples must be bytes or str"):
        mpqueue.decode_json_example([1])
