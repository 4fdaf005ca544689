"""The columns of `parse_example`: a batch of Examples read all at once.

`example_entries` finds the features; this module reads their lists, all of one dtype together. A record of 20 features
whose lengths differ from record to record costs 3.3 us of CPU in batches of 1,000 and 6.6 in batches of 128, where
TensorFlow's kernel, its results as arrays, takes 2.4 and 3.2: 0.75 and 0.5 of it; 2.4 in batches of 1,000 where all
records have the same keys in one order. Some 350 NumPy calls, 0.5 ms, are the price of any batch. It stays because what
else there is takes far longer: where the columns took 7.2, the rows took 44, and protobuf's parser in C 15, 3.9 of them
for the messages and the rest for their values. Records that are not of the form that writers produce, or lack a
feature, are left to the rows, which read all forms and raise the errors.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.example_columns import ExampleColumn
from mpqueue.examples.example_entries import Entries, blocks_at, find
from mpqueue.examples.example_plan import ExamplePlan
from mpqueue.examples.protobuf_wire import BYTES_LIST, FLOAT_LIST, INT64_LIST, Malformed, read_bytes
from mpqueue.examples.vectorized import MARGIN, MAX_VARINT_BYTES, Mask, Places, decode_varints, words_of
from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.values.conversion import text_array

_FIRST_FIELD = np.uint64(0x0A)


class Lists(NamedTuple):
    """The values of some Features, one Feature after another.

    Args:
        counts: Number of values of each; 0 where it is not ``good``.
        values: All of them.
        good: True where the Feature is of the form that writers produce.
    """

    counts: Places
    values: Any
    good: Mask


def read_batch(records: list[bytes], plan: ExamplePlan, columns: dict[bytes, ExampleColumn]) -> Places:
    """Read the records that can be read at once into the columns.

    Args:
        records: The serialized Examples.
        plan: The features to read.
        columns: Filled with them, by key.

    Returns: Indices of the records that remain to be read, rising.
    """
    keep_freed_memory()
    # One buffer for all, and a margin, since a word of eight bytes is read at the last places, too.
    text = b"".join([*records, MARGIN])
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    entries, refused = find(text, np.concatenate(([0], ends[:-1])), ends, plan)
    lists = _lists(text, entries, plan.tags)
    counts = np.concatenate([part.counts for part in lists])
    good = np.concatenate([part.good for part in lists])
    sizes, is_fixed = plan.sizes[entries.numbers], plan.is_fixed[entries.numbers]
    # At least 1: a fixed shape may hold no values, and NumPy would warn of a division whose result is not used.
    good &= np.where(is_fixed, counts == sizes, counts % np.maximum(sizes, 1) == 0)
    refused[entries.records[~good]] = True
    # A key comes once in a record, else the record is refused: so it is enough to count those that are required.
    there = np.bincount(entries.records[plan.is_required[entries.numbers]], minlength=len(records))
    refused |= there < np.count_nonzero(plan.is_required)
    _put(columns, plan, entries, lists, ~refused[entries.records])
    return np.flatnonzero(refused)


def _put(
    columns: dict[bytes, ExampleColumn], plan: ExamplePlan, entries: Entries, lists: list[Lists], kept: Mask
) -> None:
    """Put the lists that are kept into their columns."""
    first = 0
    for part in lists:
        where = slice(first, first := first + len(part.counts))
        mine, counts, read = kept[where], part.counts, part.values
        numbers, records = entries.numbers[where][mine], entries.records[where][mine]
        if not mine.all():
            counts, read = counts[mine], read[np.repeat(mine, counts)]
        value_ends = np.concatenate(([0], np.cumsum(counts)))
        marks = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1  # where the next feature begins
        for start, end in itertools.pairwise([0, *marks.tolist(), len(numbers)] if len(numbers) else []):
            values = read[value_ends[start] : value_ends[end]]
            columns[plan.specs[numbers[start]].key].put(records[start:end], counts[start:end], values)


def _lists(text: bytes, entries: Entries, tags: NDArray[np.uint64]) -> list[Lists]:
    """Read the values of the features, those of one dtype together; they follow one another in the plan."""
    words = words_of(text)
    own_tags = tags[entries.numbers]
    bodies, body_ends, good = blocks_at(words, entries.starts, own_tags)
    good &= (body_ends == entries.ends) & (entries.starts < entries.ends)
    runs, run_ends, is_run = blocks_at(words, bodies, _FIRST_FIELD)
    is_run &= good & (run_ends == entries.ends)
    good &= is_run | (own_tags == BYTES_LIST) | (bodies == entries.ends)
    # A list of nothing, from 0 to 0; no run begins at place 0, which is the tag of the first record.
    runs[~is_run] = run_ends[~is_run] = 0
    # The entries are in the order of the plan, which has its features by dtype: each dtype is one slice.
    strings, floats, ints = (
        slice(*np.searchsorted(own_tags, (tag, tag + 1))) for tag in (BYTES_LIST, FLOAT_LIST, INT64_LIST)
    )
    return [
        _strings(text, entries.starts[strings], entries.ends[strings], runs[strings], good[strings]),
        _floats(text, runs[floats], run_ends[floats], good[floats]),
        _ints(text, runs[ints], run_ends[ints], good[ints]),
    ]


def _floats(text: bytes, runs: Places, ends: Places, good: Mask) -> Lists:
    """Read float lists, each a run of float32."""
    lengths = ends - runs
    good &= lengths % 4 == 0
    counts = np.where(good, lengths // 4, 0)
    size = int(counts.max(initial=0))
    if size and (counts == size).all():  # rows of one length are copied by the row
        rows = np.ndarray((len(text) - 4 * size + 1,), f"V{4 * size}", text, strides=(1,))
        return Lists(counts, rows[runs].view("<f4"), good)
    numbers = np.ndarray((len(text) - 3,), "<f4", text, strides=(1,))
    return Lists(counts, numbers[_ranges(runs, counts, 4)], good)


def _ints(text: bytes, runs: Places, ends: Places, good: Mask) -> Lists:
    """Read int64 lists, each a run of numbers of seven bits a byte."""
    letters = np.frombuffer(text, np.uint8)
    # A run whose last number goes on would take the first bytes of the next run into it, once they are joined.
    good &= (letters[ends - 1] < 0x80) | (runs == ends)
    lengths = np.where(good, ends - runs, 0)
    # One small number each, as labels are: the byte is the number.
    if (lengths == 1).all():
        return Lists(lengths, letters[runs].astype(np.int64), good)
    letters = letters[_ranges(runs, lengths, 1)]
    number_ends = np.flatnonzero(letters < 0x80) + 1
    starts = np.concatenate(([0], number_ends[:-1]))[: len(number_ends)]
    run_ends = np.cumsum(lengths)
    too_long = np.searchsorted(run_ends, starts[number_ends - starts > MAX_VARINT_BYTES], side="right")
    # Once more without the lists that hold such a number, as their numbers stand between those of the others.
    if len(too_long):
        good[too_long] = False
        return _ints(text, runs, np.where(good, ends, runs), good)
    counts = np.searchsorted(number_ends, run_ends, side="right")
    counts[1:] -= counts[:-1].copy()
    return Lists(counts, decode_varints(letters, starts, number_ends - starts), good)


def _ranges(starts: Places, counts: Places, step: int) -> Places:
    """Return the places ``start, start + step, ...`` of several ranges, one range after another."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - step * before, counts) + step * np.arange(int(counts.sum()))


def _strings(text: bytes, starts: Places, ends: Places, runs: Places, good: Mask) -> Lists:
    """Read bytes lists; those of just one value are runs, for the others ``runs`` is 0."""
    # One string each, as mostly: slices, without a look at the lists.
    if runs.all():
        singles = text_array([text[run:end] for run, end in zip(runs.tolist(), ends.tolist(), strict=True)])
        return Lists(np.ones(len(runs), np.int64), singles, good)
    lists: list[list[bytes]] = []
    for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        try:
            lists.append(read_bytes(text, start, end) if good[place] else [])
        except Malformed:
            good[place] = False
            lists.append([])
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    return Lists(counts, text_array(list(itertools.chain.from_iterable(lists))), good)
