"""Damaged bytes, for tests of decoders."""

from hypothesis import strategies as st

edits = st.lists(
    st.tuples(st.integers(0, 5000), st.sampled_from(["set", "cut", "double"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def bent(data, edits):
    """Return a copy of the bytes with some of them overwritten, removed or duplicated."""
    data = bytearray(data)
    for at, how, byte in edits:
        at %= max(1, len(data))
        if how == "set":
            data[at : at + 1] = bytes([byte])
        elif how == "cut":
            del data[at : at + byte]
        else:
            data[at:at] = data[at : at + byte]
    return bytes(data)
