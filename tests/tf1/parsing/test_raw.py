"""`decode_raw` beyond the golden cases."""

import pytest

import mpqueue
from mpqueue.errors import InvalidArgumentError


def test_bfloat16_dtype_of_other_package_is_returned():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    decoded = mpqueue.decode_raw(b"\x3f\x80\xc0\x00", bfloat16, little_endian=False)
    assert decoded.dtype == bfloat16
    assert decoded.astype(float).tolist() == [1.0, -2.0]


def test_result_is_writable_and_owns_its_memory():
    text = b"abcd"
    decoded = mpqueue.decode_raw(text, "uint8")
    decoded[0] = 0
    assert text == b"abcd"


@pytest.mark.parametrize(
    ("records", "out_type", "options", "error", "message"),
    [
        ([b"ab", b"ab", b"abc"], "uint8", {}, InvalidArgumentError, "record 2 has 3 bytes and record 0 has 2"),
        (b"abc", "int16", {}, InvalidArgumentError, "must be a multiple of the item size 2, got 3"),
        (b"abcd", "int16", {"fixed_length": 0}, InvalidArgumentError, "fixed_length must be positive, got 0"),
        (b"abcd", "int16", {"fixed_length": -2}, InvalidArgumentError, "fixed_length must be positive, got -2"),
        ([[b"a"], [b"b", b"c"]], "uint8", {}, ValueError, "unequal lengths"),
        ([1, 2], "uint8", {}, TypeError, "bytes must be bytes or str"),
    ],
)
def test_invalid_input_is_rejected(records, out_type, options, error, message):
    with pytest.raises(error, match=message):
        mpqueue.decode_raw(records, out_type, **options)


def test_float16_supports_fixed_length():
    """TensorFlow has no kernel for it."""
    assert mpqueue.decode_raw([b"\x00\x3c"], "float16", fixed_length=4).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("name", ["bool", "complex64"])
def test_some_types_do_not_support_fixed_length(name):
    with pytest.raises(TypeError, match="fixed_length"):
        mpqueue.decode_raw(b"abcdefgh", name, fixed_length=8)


def test_padding_is_swapped_with_the_rest():
    assert mpqueue.decode_raw([b"\x01\x02\x03"], "uint16", little_endian=False, fixed_length=4).tolist() == [
        [0x0102, 0x0300]
    ]


@pytest.mark.parametrize("out_type", ["uint32", "string", None, "nonsense", "datetime64"])
def test_other_types_are_rejected(out_type):
    with pytest.raises(TypeError):
        mpqueue.decode_raw(b"abcd", out_type)
