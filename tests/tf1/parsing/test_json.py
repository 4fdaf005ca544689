"""JSON Examples, with results observed in TensorFlow 2.21."""

import math

import numpy as np
import pytest
from helpers.encoding import block, bytes_list, entry, example, float_list, int64_list

import mpqueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.train import Example

ONE = '{"int64List":{"value":[1]}}'


def of(value, kind="int64List"):
    return f'{{"features":{{"feature":{{"a":{{"{kind}":{{"value":{value}}}}}}}}}}}'


def values(text):
    feature = Example.FromString(mpqueue.decode_json_example(text)).features.feature["a"]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


def assert_refused(text):
    with pytest.raises(InvalidArgumentError, match="record 0 is not"):
        mpqueue.decode_json_example(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[1,-2]", [1, -2]),
        ("[ 1 ,\t2\r\n]", [1, 2]),
        ("[1.0, 2e3, 10e-1, 1E2, 1e+2, 0e0]", [1, 2000, 1, 100, 100, 0]),
        ('["1", "-1", "+1", "01", "1.0", "2e3", "1.e0", "0x10"]', [1, -1, 1, 1, 1, 2000, 1, 16]),
        ("['1']", [1]),
        ("[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        ("[9007199254740993, 9007199254740993.0]", [9007199254740993, 9007199254740992]),
        ("[-0, 1,]", [0, 1]),
        ("[[1, [2]], null, 3]", [1, 2, 0, 3]),
        ("1", [1]),
        ("null", []),
        ("[]", []),
    ],
)
def test_integers_are_read(value, expected):
    assert values(of(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        "[1.5]",
        "[1e-1]",
        '["1.5"]',
        '[" 1"]',
        '["1 "]',
        "[+1]",
        "[- 1]",
        "[01]",
        "[-01]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[0x10]",
        "[9223372036854775808]",
        "[1e18]",
        "[9223372036854775807.0]",
        "[1e400]",
        '["9223372036854775808"]',
        '[""]',
        "[true]",
        '["true"]',
        "[NaN]",
        '["NaN"]',
        "[{}]",
        "{}",
        "[,1]",
        "[1 2]",
        "[1]]",
        "[1_0]",
        "[1;2]",
        "[1",
        "[nul]",
        "// c\n[1]",
        "/*c*/[1]",
        "[1\x0b]",
        "[1\xa0]",
        "[" + "1" * 5000 + "]",
    ],
)
def test_invalid_integer_is_rejected(value):
    assert_refused(of(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[1.5, -2, 1e3, 0.1]", [1.5, -2.0, 1000.0, np.float32(0.1)]),
        ('["1.5", " 1.5 ", "+1.5", "1.", ".5", "01.5", "0x1p3"]', [1.5, 1.5, 1.5, 1.0, 0.5, 1.5, 8.0]),
        ('["Infinity", "-Infinity", "inf", "+Infinity", "1e400"]', [math.inf, -math.inf, math.inf, math.inf, math.inf]),
        ("[3.4028235e38, 1e-50, 16777217]", [3.4028234663852886e38, 0.0, 16777216.0]),
        ("[1.00000005960464477539063]", [1.0]),  # through float64, unlike in decode_csv
        ("[null, 1]", [0.0, 1.0]),
    ],
)
def test_floats_are_read(value, expected):
    assert values(of(value, "floatList")) == expected


def test_nan_keeps_its_sign():
    assert mpqueue.decode_json_example(of('["nan", "-NaN", "nan(1)"]', "floatList")) == example(
        entry(b"a", block(0x12, b"\x0d\0\0\xc0\x7f\x0d\0\0\xc0\xff\x0d\0\0\xc0\x7f"))
    )


@pytest.mark.parametrize(
    "value",
    [
        "[1e39]",
        '["1e39"]',
        "[-1e39]",
        "[3.4028236e38]",
        "[3.4028235677973366e38]",
        "[1e400]",
        "[NaN]",
        "[Infinity]",
        "[true]",
        '["true"]',
        '[""]',
        '["1_0"]',
        '["1f"]',
        '["  "]',
        "[01.5]",
        "[-.5]",
        "[0x1]",
    ],
)
def test_invalid_float_is_rejected(value):
    assert_refused(of(value, "floatList"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["aGVsbG8=", "aGVsbG8", ""]', [b"hello", b"hello", b""]),
        ('["_-8=", "/+8=", "/-8=", "_+8"]', [b"\xff\xef"] * 4),
        ('["aa==", "ab==", "aa", "aaa"]', [b"i", b"i", b"i", b"i\xa6"]),
        ('["aG\\u0056s"]', [b"hel"]),
        ('[["eA=="], null]', [b"x", b""]),
        ('"eA=="', [b"x"]),
    ],
)
def test_byte_strings_are_base64(value, expected):
    assert values(of(value, "bytesList")) == expected


@pytest.mark.parametrize(
    "value",
    [
        '["a"]',
        '["aaaaa"]',
        '["aa="]',
        '["aGVsbG8=="]',
        '["a==="]',
        '["===="]',
        '["="]',
        '["aa==aa=="]',
        '["aGVs bG8="]',
        '["aGVsbG8=\\n"]',
        '["é"]',
        "[1]",
        "[true]",
        "[,]",
        '["eA==" "eA=="]',
    ],
)
def test_invalid_base64_is_rejected(value):
    assert_refused(of(value, "bytesList"))


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


@pytest.mark.parametrize("key", [r"\ud800", r"\ude00", r"\ud800\u0041", r"\x", r"\v", r"\u00e", r"\u+123", r"\u 12a"])
def test_invalid_escapes_are_rejected(key):
    assert_refused(f'{{"features":{{"feature":{{"{key}":{ONE}}}}}}}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "null",
        "1",
        '"a"',
        "[]",
        "[{}]",
        "{} {}",
        "{}x",
        "{}\0",
        "\ufeff{}",
        "{",
        "{,}",
        '{"features"}',
        '{"features":}',
    ]
    + ['{"features":{}', '{"features":1}', '{"features":[]}', '{"features":"x"}', '{"features":{"feature":[]}}']
    + ['{"Features":{}}', '{"x":null}', '{"":{}}', '{"@type":"x"}', '{"features":{"1":{}}}', "{/**/}", "{}//x"]
    + ['{"features":{"feature":{"a":1}}}', '{"features":{"feature":{"a":{"int64List":[1]}}}}']
    + ['{"features":{"feature":{"a":{"int64List":{"x":1}}}}}', '{"features":{"feature":{"a":{"int64list":{}}}}}']
    + ['{"features":{"feature":{"a":{"int64List":{},"int64List":{}}}}}', '{"features":{"feature":{"a":{},"a":{}}}}']
    + ['{"features":{"feature":{"a":{"int64List":{},"doubleList":null}}}}', '{"features":{"feature":{"a" {}}}}']
    + [
        f'{{"features":{{"feature":{{{key}:{ONE}}}}}}}'
        for key in ("1", "null", "true", "a-b", "a b", "$a", "9a", "é", ",")
    ],
)
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
