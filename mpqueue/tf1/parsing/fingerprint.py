"""FarmHash's Fingerprint64, the hash function of TensorFlow's "fast" buckets. It only depends on the bytes.

Implemented from the description of farmhash "na". Words are 64-bit, little endian, and all arithmetic wraps around.
"""

from typing import Final

_MASK: Final = 2**64 - 1
_K0: Final = 0xC3A5C85C97CB3127
_K1: Final = 0xB492B66FBE98F273
_K2: Final = 0x9AE16A3B2F90404F


def fingerprint64(text: bytes) -> int:
    """Return the fingerprint, an integer of 64 bits."""
    length = len(text)
    if length > 64:
        return _long(text, length)
    factor = _K2 + length * 2
    if length > 32:
        y, z = _ends(text, _K2, factor)
        z = _pair(y, z, factor)
        e, f = _word(text, 16) * factor, _word(text, 24)
        g, h = (y + _word(text, -32)) * factor, (z + _word(text, -24)) * factor
        first = _turned(e + f, 43) + _turned(g, 30) + h
        return _pair(first & _MASK, e + _turned(f + _word(text, 0) * _K2, 18) + g & _MASK, factor)
    if length > 16:
        return _pair(*_ends(text, _K1, factor), factor)
    if length >= 8:
        a, b = _word(text, 0) + _K2, _word(text, -8)
        c, d = _turned(b, 37) * factor + a, (_turned(a, 25) + b) * factor
        return _pair(c & _MASK, d & _MASK, factor)
    if length >= 4:
        return _pair(length + (_word(text, 0, 4) << 3), _word(text, -4, 4), factor)
    if not length:
        return _K2
    y = text[0] + (text[length >> 1] << 8)
    return _mixed(y * _K2 & _MASK ^ (length + (text[-1] << 2)) * _K0 & _MASK) * _K2 & _MASK


def _word(text: bytes, start: int, size: int = 8) -> int:
    """Return the word at an offset, which is relative to the end if it is negative."""
    start += len(text) if start < 0 else 0
    return int.from_bytes(text[start : start + size], "little")


def _turned(value: int, bits: int) -> int:
    value &= _MASK
    return (value >> bits | value << (64 - bits)) & _MASK


def _mixed(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _pair(one: int, two: int, factor: int) -> int:
    first = _mixed((one ^ two) * factor)
    return _mixed((two ^ first) * factor) * factor & _MASK


def _ends(text: bytes, weight: int, factor: int) -> tuple[int, int]:
    """Mix the first and the last 16 bytes into two words."""
    a, b = _word(text, 0) * weight, _word(text, 8)
    c, d = _word(text, -8) * factor, _word(text, -16) * _K2
    return _turned(a + b, 43) + _turned(c, 30) + d & _MASK, a + _turned(b + _K2, 18) + c & _MASK


def _weak(text: bytes, start: int, a: int, b: int) -> tuple[int, int]:
    """Mix 32 bytes and two seeds into two words."""
    w, x, y, z = (_word(text, start + place) for place in (0, 8, 16, 24))
    a = a + w & _MASK
    b = _turned(b + a + z, 21)
    return a + x + y + z & _MASK, b + _turned(a + x + y, 44) + a & _MASK


def _long(text: bytes, length: int) -> int:
    x, y = 81 * _K2 + _word(text, 0) & _MASK, 81 * _K1 + 113 & _MASK
    state: _State = x, y, _mixed(y * _K2 + 113) * _K2 & _MASK, (0, 0), (0, 0)
    for start in range(0, (length - 1) // 64 * 64, 64):
        state = _round(text, start, state, _K1, 1)
    x, y, z, v, w = state
    factor = _K1 + ((z & 0xFF) << 1)
    w = (w[0] + (length - 1 & 63) & _MASK, w[1])
    v = (v[0] + w[0] & _MASK, v[1])
    w = (w[0] + v[0] & _MASK, w[1])
    x, y, z, v, w = _round(text, length - 64, (x, y, z, v, w), factor, 9)
    first = _pair(v[0], w[0], factor) + _mixed(y) * _K0 + z
    return _pair(first & _MASK, _pair(v[1], w[1], factor) + x & _MASK, factor)


_State = tuple[int, int, int, tuple[int, int], tuple[int, int]]


def _round(text: bytes, start: int, state: _State, factor: int, weight: int) -> _State:
    """Mix 64 bytes into the state."""
    x, y, z, v, w = state
    x = _turned(x + y + v[0] + _word(text, start + 8), 37) * factor & _MASK
    y = _turned(y + v[1] + _word(text, start + 48), 42) * factor & _MASK
    x ^= w[1] * weight & _MASK
    y = y + v[0] * weight + _word(text, start + 40) & _MASK
    z = _turned(z + w[0], 33) * factor & _MASK
    v = _weak(text, start, v[1] * factor & _MASK, x + w[0])
    w = _weak(text, start + 32, z + w[1], y + _word(text, start + 16))
    return z, y, x, v, w
