"""The positions of the features of many Examples, found together.

The records are consecutive in a buffer and are traversed in step. One round of NumPy operations advances every record
by one entry, so a batch takes as many rounds as a record has features. A single round then reads the contents of all
entries of all records. Only the form that writers produce is supported: each message ends where its length says, a key
precedes its value, and no key is repeated. A record of another form is rejected and left to `example_rows`, which reads
all forms.

Writers sort their keys, and the records of a file usually have the same keys. All entries of a round then begin with
the same bytes. They are compared with the entry of the first record. Its key is looked up once. This takes 0.7 of the
time for batches of 1,000 records of 20 features. A batch with a differing record, or with an entry of 128 bytes or
more, is read the general way.
"""

from typing import NamedTuple

import numpy as np

from mpqueue.examples.example_plan import ExamplePlan
from mpqueue.examples.vectorized import Mask, Offsets, Words, words_of

_U64 = np.uint64
_BYTE, _TOP_BIT = _U64(0xFF), _U64(0x80)
_FIRST_FIELD, _SECOND_FIELD = _U64(0x0A), _U64(0x12)
_LONG = 0x80  # lengths from this value on take more than one byte
_BITS_OF_SIZE = np.array([0, *((1 << (7 * size)) - 1 for size in range(1, 5))], np.uint64)
_FEW = 4
"""Up to this number, records are read faster one by one than in step."""


class Entries(NamedTuple):
    """The positions of the selected features, sorted by feature and then by record.

    Args:
        key_indices: The index of the feature in the plan.
        records: The index of the record.
        starts: The position of the first byte.
        ends: The position after the last byte.
    """

    key_indices: Offsets
    records: Offsets
    starts: Offsets
    ends: Offsets


def blocks_at(words: Words, offsets: Offsets, tags: Words | np.uint64) -> tuple[Offsets, Offsets, Mask]:
    """Return start and end of each message that begins with a tag and a length, and a mask of the valid ones."""
    heads = words[offsets]
    good = (heads & _BYTE) == tags
    heads >>= _U64(8)
    # The common case: all lengths are below 128, so each is a single byte, and `_lengths` is not needed.
    if not (heads & _TOP_BIT).any():
        starts = offsets + 2
        heads &= _BYTE
        return starts, starts + heads.view(np.int64), good
    lengths, sizes, short = _lengths(heads)
    starts = offsets + 1 + sizes
    good &= short
    return starts, starts + lengths, good


def _lengths(heads: Words) -> tuple[Offsets, Offsets, Mask]:
    """Return value and size of the length at the start of each word, and a mask of the sizes of at most four bytes."""
    # Remains 1 only as long as each byte so far has its top bit set.
    continues = (heads >> _U64(7)) & _U64(1)
    sizes = continues + _U64(1)
    values = heads & _U64(0x7F)
    for byte in (1, 2, 3):
        values |= (heads >> _U64(byte)) & _U64(0x7F << (7 * byte))
        continues &= heads >> _U64(8 * byte + 7)
        sizes += continues
    # The caller rejects longer lengths, but their sizes must still be valid indices.
    sizes -= continues
    values &= _BITS_OF_SIZE[sizes.view(np.int64)]
    return values.view(np.int64), sizes.view(np.int64), continues == 0


def find(text: bytes, starts: Offsets, ends: Offsets, plan: ExamplePlan) -> tuple[Entries, Mask]:
    """Find features.

    Args:
        text: The records, followed by a margin.
        starts: The position of the first byte of each record.
        ends: The position after its last byte.
        plan: The features.

    Returns: The selected features, and a mask of the rejected records. Their features must be ignored.
    """
    words, refused = words_of(text), np.zeros(len(starts), bool)
    alike = _find_alike(text, words, starts, ends, plan)
    if alike is not None:
        return alike, refused
    records, entries, entry_ends = _walk(words, starts, ends, refused)
    heads = words[entries]
    good = (heads & _BYTE) == _FIRST_FIELD
    heads >>= _U64(8)
    heads &= _BYTE
    good &= heads < _TOP_BIT
    key_lengths = heads.view(np.int64)
    keys = entries + 2
    features, feature_ends, whole = blocks_at(words, keys + key_lengths, _SECOND_FIELD)
    good &= whole & (feature_ends == entry_ends)
    # Rejected records are only marked here, so that all arrays keep their shape. The caller drops them at the end.
    refused[records[~good]] = True
    key_indices = plan.keys.find(words, keys, key_lengths)
    selected = np.flatnonzero(key_indices >= 0)
    # One entry per feature and record: if a key is repeated, one entry overwrites the other, which reveals it. Read row
    # by row, the table also sorts the entries in the order of the plan.
    table = np.full((len(plan.specs), len(starts)), -1, np.int64)
    table[key_indices[selected], records[selected]] = selected
    twice = table[key_indices[selected], records[selected]] != selected
    refused[records[selected[twice]]] = True
    in_order = table[table >= 0]
    return Entries(key_indices[in_order], records[in_order], features[in_order], entry_ends[in_order]), refused


def _find_alike(text: bytes, words: Words, starts: Offsets, ends: Offsets, plan: ExamplePlan) -> Entries | None:
    """Find the features of records with the same keys in the same order; return None if they differ."""
    offsets, stops, good = blocks_at(words, starts, _FIRST_FIELD)
    if not (good & (stops == ends)).all():
        return None
    positions: dict[int, tuple[Offsets, Offsets]] = {}
    while (offsets < ends).all():  # so no position is past the margin
        first = int(offsets[0])
        key_length = text[first + 3]
        size = key_length + 6  # tag, length; tag, length, key; tag, length
        if key_length >= _LONG or first + size > ends[0]:
            return None
        rows = np.ndarray((len(text) - size + 1,), f"V{size}", text, strides=(1,))[offsets].view(np.uint8)
        rows = rows.reshape(len(starts), size)
        lengths, value_lengths = rows[:, 1].astype(np.int64), rows[:, -1].astype(np.int64)
        # Only the two lengths may differ between records. Set to those of the first record, a single comparison of
        # bytes checks everything else. They must then agree that the entry ends with its value.
        rows[:, 1], rows[:, -1] = text[first + 1], text[first + size - 1]
        if rows.tobytes() != text[first : first + size] * len(starts):
            return None
        if lengths.max() >= _LONG or (lengths != value_lengths + (size - 2)).any():
            return None
        values, offsets = offsets + size, offsets + 2 + lengths
        key_index = plan.keys.indices.get(text[first + 4 : first + 4 + key_length])
        if key_index in positions:
            return None
        if key_index is not None:
            positions[key_index] = values, offsets
    if not positions or (offsets != ends).any():
        return None
    key_indices = sorted(positions)
    value_starts, value_ends = (np.concatenate(parts) for parts in zip(*map(positions.get, key_indices), strict=True))
    return Entries(
        np.repeat(key_indices, len(starts)), np.tile(np.arange(len(starts)), len(key_indices)), value_starts, value_ends
    )


def _walk(words: Words, starts: Offsets, ends: Offsets, refused: Mask) -> tuple[Offsets, Offsets, Offsets]:
    """Return the record, the start and the end of each entry."""
    # One message of features up to the end of the record. Several, which would have to be merged, are left to the rows.
    offsets, stops, good = blocks_at(words, starts, _FIRST_FIELD)
    good &= stops == ends
    refused[~good] = True
    records = np.flatnonzero(good & (offsets < ends))
    offsets, ends = offsets[records], ends[records]
    rounds: list[tuple[Offsets, Offsets, Offsets]] = []
    # A round costs nearly the same for few records as for hundreds, so the last and longest ones are left to the rows.
    while len(records) > _FEW or (len(records) and not rounds):
        firsts, offsets, good = blocks_at(words, offsets, _FIRST_FIELD)
        rounds.append((records, firsts, offsets))
        good &= offsets <= ends
        has_more = good & (offsets < ends)
        if not has_more.all():
            refused[records[~good]] = True
            alive = np.flatnonzero(has_more)
            records, offsets, ends = records[alive], offsets[alive], ends[alive]
    refused[records] = True
    if not rounds:
        return records, offsets, ends
    all_records, all_firsts, all_ends = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    return all_records, all_firsts, all_ends
