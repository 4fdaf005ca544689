"""Handwritten wire format of `tf.train.Example`, so that tests can encode invalid messages."""

import struct


def varint(value):
    value &= 2**64 - 1
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def block(tag, content):
    """Return a length-delimited field."""
    return bytes([tag]) + varint(len(content)) + content


def int64_list(*values, packed=True):
    if packed:
        return block(0x1A, block(0x0A, b"".join(map(varint, values))))
    return block(0x1A, b"".join(b"\x08" + varint(value) for value in values))


def float_list(*values, packed=True):
    if packed:
        return block(0x12, block(0x0A, struct.pack(f"<{len(values)}f", *values)))
    return block(0x12, b"".join(b"\x0d" + struct.pack("<f", value) for value in values))


def bytes_list(*values):
    return block(0x0A, b"".join(block(0x0A, value) for value in values))


def entry(key, feature):
    return block(0x0A, block(0x0A, key) + block(0x12, feature))


def example(*entries):
    return block(0x0A, b"".join(entries))


def example_of(**features):
    return example(*(entry(key.encode(), feature) for key, feature in features.items()))
