"""The places of the features of many Examples, found all at once.

The records lie one after another in a buffer. All are walked in step: one round of NumPy operations takes every record
from one entry to its next, so that a batch costs as many rounds as a record has features. The insides of all entries of
all records are then looked at in a single round. Only the form that writers produce is understood: each message ends
just where its length says, a key comes before its value, no key comes twice. A record of any other form is refused, and
left to `example_rows`, which reads all forms.

Writers sort their keys, and records of one file mostly have the same ones. Then all entries of one round begin alike,
and the first record says how: they are compared with its entry, whose key is looked up once. Batches of 1,000 records
of 20 features are so read in 0.7 of the time. A batch of which any record differs, or has an entry of 128 bytes and
more, goes the general way.
"""

from typing import NamedTuple

import numpy as np

from mpqueue.examples.example_plan import ExamplePlan
from mpqueue.examples.vectorized import Mask, Places, Words, words_of

_U64 = np.uint64
_BYTE, _TOP_BIT = _U64(0xFF), _U64(0x80)
_FIRST_FIELD, _SECOND_FIELD = _U64(0x0A), _U64(0x12)
_LONG = 0x80  # a length from here on takes more than one byte
_BITS_OF_SIZE = np.array([0, *((1 << (7 * size)) - 1 for size in range(1, 5))], np.uint64)
_FEW = 4
"""Up to this many records are better read one by one than walked in step."""


class Entries(NamedTuple):
    """Places of the wanted features, one after another by feature, then by record.

    Args:
        numbers: Of the feature in the plan.
        records: Index of its record.
        starts: Place of its first byte.
        ends: Place after its last.
    """

    numbers: Places
    records: Places
    starts: Places
    ends: Places


def blocks_at(words: Words, places: Places, tags: Words | np.uint64) -> tuple[Places, Places, Mask]:
    """Read messages that begin with a tag and a length: return their starts, their ends, and which ones are there."""
    heads = words[places]
    good = (heads & _BYTE) == tags
    heads >>= _U64(8)
    # All lengths below 128, as mostly: then they are one byte each, and nothing of `_lengths` is needed.
    if not (heads & _TOP_BIT).any():
        starts = places + 2
        heads &= _BYTE
        return starts, starts + heads.view(np.int64), good
    lengths, sizes, short = _lengths(heads)
    starts = places + 1 + sizes
    good &= short
    return starts, starts + lengths, good


def _lengths(heads: Words) -> tuple[Places, Places, Mask]:
    """Read the length with which each word begins: return value and size, and a mask of those of at most four bytes."""
    # It stays 1 only as long as every byte so far has its top bit set.
    goes_on = (heads >> _U64(7)) & _U64(1)
    sizes = goes_on + _U64(1)
    values = heads & _U64(0x7F)
    for byte in (1, 2, 3):
        values |= (heads >> _U64(byte)) & _U64(0x7F << (7 * byte))
        goes_on &= heads >> _U64(8 * byte + 7)
        sizes += goes_on
    # A length that goes on behind four bytes is refused by its caller; its size must be an index all the same.
    sizes -= goes_on
    values &= _BITS_OF_SIZE[sizes.view(np.int64)]
    return values.view(np.int64), sizes.view(np.int64), goes_on == 0


def find(text: bytes, starts: Places, ends: Places, plan: ExamplePlan) -> tuple[Entries, Mask]:
    """Find features.

    Args:
        text: The records, with a margin after them.
        starts: Place of the first byte of each record.
        ends: Place after its last.
        plan: The features.

    Returns: The wanted features, and which records are refused; features of those are to be ignored.
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
    # Marked, and not taken out: the arrays keep their places, and the caller drops all of a refused record at the end.
    refused[records[~good]] = True
    numbers = plan.keys.find(words, keys, key_lengths)
    wanted = np.flatnonzero(numbers >= 0)
    # A place for each feature and record: where a key comes twice, one overwrites the other, and so is found.
    # Read row by row, the table also brings the entries into the order of the plan.
    table = np.full((len(plan.specs), len(starts)), -1, np.int64)
    table[numbers[wanted], records[wanted]] = wanted
    twice = table[numbers[wanted], records[wanted]] != wanted
    refused[records[wanted[twice]]] = True
    in_order = table[table >= 0]
    return Entries(numbers[in_order], records[in_order], features[in_order], entry_ends[in_order]), refused


def _find_alike(text: bytes, words: Words, starts: Places, ends: Places, plan: ExamplePlan) -> Entries | None:
    """Find features of records that all have the same keys in the same order; None if they do not."""
    places, stops, good = blocks_at(words, starts, _FIRST_FIELD)
    if not (good & (stops == ends)).all():
        return None
    found: dict[int, tuple[Places, Places]] = {}
    while (places < ends).all():  # and so no place is behind the margin
        first = int(places[0])
        key_length = text[first + 3]
        size = key_length + 6  # tag, length; tag, length, key; tag, length
        if key_length >= _LONG or first + size > ends[0]:
            return None
        rows = np.ndarray((len(text) - size + 1,), f"V{size}", text, strides=(1,))[places].view(np.uint8)
        rows = rows.reshape(len(starts), size)
        lengths, value_lengths = rows[:, 1].astype(np.int64), rows[:, -1].astype(np.int64)
        # The two lengths may differ from record to record. Set to those of the first, one comparison of bytes tells
        # the rest. Behind it, they must say that the entry ends where its value does.
        rows[:, 1], rows[:, -1] = text[first + 1], text[first + size - 1]
        if rows.tobytes() != text[first : first + size] * len(starts):
            return None
        if lengths.max() >= _LONG or (lengths != value_lengths + (size - 2)).any():
            return None
        values, places = places + size, places + 2 + lengths
        number = plan.keys.numbers.get(text[first + 4 : first + 4 + key_length])
        if number in found:
            return None
        if number is not None:
            found[number] = values, places
    if not found or (places != ends).any():
        return None
    numbers = sorted(found)
    value_starts, value_ends = (np.concatenate(parts) for parts in zip(*map(found.get, numbers), strict=True))
    return Entries(
        np.repeat(numbers, len(starts)), np.tile(np.arange(len(starts)), len(numbers)), value_starts, value_ends
    )


def _walk(words: Words, starts: Places, ends: Places, refused: Mask) -> tuple[Places, Places, Places]:
    """Return the record, the start and the end of every entry."""
    # One message of features to the end of the record; several, which would be merged, are left to the rows.
    places, stops, good = blocks_at(words, starts, _FIRST_FIELD)
    good &= stops == ends
    refused[~good] = True
    records = np.flatnonzero(good & (places < ends))
    places, ends = places[records], ends[records]
    rounds: list[tuple[Places, Places, Places]] = []
    # A round costs nearly the same for a few records as for hundreds: the last ones, the longest, are left to the rows.
    while len(records) > _FEW or (len(records) and not rounds):
        firsts, places, good = blocks_at(words, places, _FIRST_FIELD)
        rounds.append((records, firsts, places))
        good &= places <= ends
        goes_on = good & (places < ends)
        if not goes_on.all():
            refused[records[~good]] = True
            alive = np.flatnonzero(goes_on)
            records, places, ends = records[alive], places[alive], ends[alive]
    refused[records] = True
    if not rounds:
        return records, places, ends
    all_records, all_firsts, all_ends = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    return all_records, all_firsts, all_ends
