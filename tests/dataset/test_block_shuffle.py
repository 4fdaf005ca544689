"""`shuffle(block=n, blocks=m)`: uneven blocks, its reader, and its errors.

The player of ``tests/model`` compares blocks of equal sizes, also by index, in lanes, and of sources that read blocks.
"""

import functools
import sys
from itertools import pairwise

import numpy as np
import pytest
from helpers.computed_source import AtOnce, Computed
from helpers.injected_exceptions import batches_despite, each_strike
from helpers.loader_runs import batches_of, begun
from helpers.wrapped_functions import recorded

import mpqueue
from mpqueue import Dataset
from mpqueue.seeding.block_order import BlockOrder, UnevenOrder

pytestmark = pytest.mark.sample(1)

UNEVEN = [[], [1], [0, 3], [2, 0, 0, 5, 1], [3, 1, 4, 1, 5, 9, 2, 6], [0, 0]]


def runs_of(numbers):
    """Return the distinct numbers in the order of their runs."""
    return [each for at, each in enumerate(numbers) if not at or numbers[at - 1] != each]


def groups_of(order, epoch, length):
    """Return the group of each place; the elements inside of the groups' blocks are the elements of the order."""
    groups, elements = [None] * length, [None] * length
    for part in order.by_group(epoch, length, range(length)):
        of_blocks = [element for block in order.blocks_of(epoch, length, part.group) for element in block]
        for position, inside in zip(np.arange(length)[part.rows].tolist(), list(part.inside), strict=True):
            groups[position], elements[position] = part.group, of_blocks[inside]
    assert elements == order.at(epoch, length, range(length)).tolist()
    return groups


def check(order, epoch, length, blocks, number):
    """Check an order: ``blocks`` has the block of each element."""
    whole = order.at(epoch, length, range(length)).tolist()
    groups = groups_of(order, epoch, length)
    assert sorted(whole) == list(range(length))
    assert len(runs_of(groups)) == len(set(groups))
    owners = {}
    for element, group in zip(whole, groups, strict=True):
        assert owners.setdefault(blocks[element], group) == group  # each block is in one group
    for group in set(groups):
        assert 0 < list(owners.values()).count(group) <= number
    return whole


@pytest.mark.parametrize("number", [1, 2, 16])
@pytest.mark.parametrize("sizes", UNEVEN)
def test_order_of_uneven_blocks(sizes, number):
    length, blocks = sum(sizes), np.repeat(np.arange(len(sizes)), sizes).tolist()
    for epoch in (0, 4):
        whole = check(UnevenOrder(3, np.array(sizes, np.int64), number), epoch, length, blocks, number)
        order = UnevenOrder(3, np.array(sizes, np.int64), number)
        assert [int(order.at(epoch, length, [position])[0]) for position in reversed(range(length))] == whole[::-1]


@pytest.mark.slow
def test_many_blocks_equal_random_access():
    length = (1 << 17) + 3  # more than are permuted at once
    order, positions = BlockOrder(2, 1, 3), np.arange(0, length, 997)
    whole = order.at(0, length, range(length))
    assert len(np.unique(whole)) == length
    assert order.at(0, length, positions).tolist() == whole[positions].tolist()


def by_blocks(source=None, size=4):
    return (Dataset.range(50) if source is None else source).shuffle(block=7, blocks=2).batch(size)


def all_of(source, **options):
    return batches_of(source, seed=5, **options)


@pytest.mark.parametrize("other", [{"block": 6, "blocks": 2}, {"block": 7, "blocks": 3}, {}])
def test_state_of_another_order_is_refused(other):
    _, state = begun(by_blocks(), 1, seed=5, workers=0)
    loader = mpqueue.Loader(Dataset.range(50).shuffle(**other).batch(4), seed=5, workers=0)
    with pytest.raises(ValueError, match="shuffle"):
        loader.load_state_dict(state)


def test_source_is_asked_once_for_each_batch_in_ascending_order(monkeypatch):
    calls = recorded(monkeypatch, AtOnce, "__getitems__")
    found = all_of(by_blocks(Dataset(AtOnce(int, 50))), workers=0)
    assert found == all_of(by_blocks(), workers=0)
    assert [list(indices) for _, indices in calls] == [sorted(batch) for batch in found]


def sample_of(index, bad):
    if index == bad:
        raise ValueError(f"sample {index}")
    return index


def damaged(bad):
    return Computed(functools.partial(sample_of, bad=bad), 20)


class Grouped(Computed):
    """A source of groups of uneven sizes. The sample ``bad`` is damaged."""

    sizes = (3, 6, 1, 0, 10)

    def __init__(self, bad=None):
        super().__init__(functools.partial(sample_of, bad=bad), 20)
        self.bad, self.calls = bad, []

    def get_blocks(self, blocks):
        self.calls += [list(block) for block in blocks]
        if any(self.bad in block for block in blocks):
            raise ValueError(f"sample {self.bad}")
        return np.concatenate([np.arange(block.start, block.stop) for block in blocks])

    def group_sizes(self):
        return np.array(self.sizes)


@pytest.mark.parametrize("sizes", [(3, 6, 1, 11), (3, 6, 1), (-1, 21), ((10, 10),), ()])
def test_sizes_of_groups_that_are_not_the_length_are_refused(sizes):
    source = Grouped()
    dataset = Dataset(source).shuffle(block="group").batch(4)
    source.sizes = sizes
    with pytest.raises(ValueError, match=r"Grouped.group_sizes must .* with the sum 20, .* with the sum \d+"):
        Dataset(source).shuffle(block="group")
    with mpqueue.Loader(dataset, workers=0) as loader, pytest.raises(ValueError, match=r"Grouped\.group_sizes must"):
        next(iter(loader))


@pytest.mark.parametrize("sizes", [[3.0, 7.0, 10.0], np.array([3, 7, 10], np.uint8), (3, 7, 10)])
def test_sizes_of_groups_may_be_any_numbers(sizes, monkeypatch):
    monkeypatch.setattr(Grouped, "group_sizes", lambda self: sizes)
    assert sorted(Dataset(Grouped()).shuffle(block="group", blocks=2)) == list(range(20))


@pytest.mark.parametrize("length", [1, 20])
@pytest.mark.parametrize(("block", "blocks"), [(3, sys.maxsize), (sys.maxsize, 1), (2**70, 2**70), (1, 2**63)])
def test_numbers_of_any_size_mean_all_samples(block, blocks, length):
    def found(*numbers):
        return list(Dataset.range(length).shuffle(block=numbers[0], blocks=numbers[1]))

    assert found(block, blocks) == found(min(block, length), min(blocks, length))
    assert sorted(found(block, blocks)) == list(range(length))


def test_groups_of_any_number_of_row_groups():
    found = [list(Dataset(Grouped()).shuffle(block="group", blocks=blocks)) for blocks in (5, 6, sys.maxsize, 2**70)]
    assert found == found[:1] * 4


@pytest.mark.parametrize(("made", "block"), [(damaged, 5), (Grouped, "group")])
def test_damaged_sample_leaves_the_others(made, block):
    order = list(Dataset(made(None)).shuffle(block=block, blocks=2))
    dataset = Dataset(made(order[3])).shuffle(block=block, blocks=2)
    with mpqueue.Loader(dataset.batch(4), seed=0, workers=0, on_error="skip") as loader:
        found = [each for batch in loader for each in batch.tolist()]
    assert found == [each for each in order if each != order[3]]


@pytest.mark.parametrize(("block", "sizes"), [("group", (3, 6, 1, 10)), (6, (6, 6, 6, 2))])
def test_blocks_of_files_are_read_once_in_an_epoch(block, sizes):
    source = Grouped()
    with mpqueue.Loader(Dataset(source).shuffle(block=block, blocks=2).batch(3), workers=0) as loader:
        for _ in range(2):
            source.calls.clear()
            assert sorted(each for batch in loader for each in batch.tolist()) == list(range(20))
            assert sorted(filter(None, map(len, source.calls))) == sorted(sizes)


class Chunked:
    """A source that reads whole blocks, and notes the calls."""

    thread_safe = True

    def __init__(self, length=200, made=None):
        self.values, self.made = np.arange(length), made
        self.blocks, self.indices = [], []

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices):
        self.indices += indices
        return list(self.values[list(indices)])

    def get_blocks(self, blocks):
        self.blocks += blocks
        whole = np.concatenate([self.values[block.start : block.stop] for block in blocks])
        return whole if self.made is None else self.made(whole)


def in_pieces(length=200):
    """Return the order of `Chunked` in blocks of 10, with 4 in a group, sample by sample."""
    return Dataset.range(length).shuffle(block=10, blocks=4)


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "threads": 3}, {"workers": 1, "lanes": 4}])
def test_each_block_is_read_once_and_no_sample_alone(options):
    """Also at the end of a group, where one thread already reads the next group."""
    source = Chunked()
    dataset = Dataset(source).shuffle(block=10, blocks=4)
    dataset = dataset.filter(lambda each: True) if "lanes" in options else dataset
    found = all_of(dataset.batch(7), backend="thread", **options)
    assert sorted(each for batch in found for each in batch) == list(range(200))
    assert sorted(block.start for block in source.blocks) == list(range(0, 200, 10)) and source.indices == []


def test_single_samples_are_read_without_their_blocks():
    source = Chunked()
    shuffled = Dataset(source).shuffle(block=10, blocks=4)
    order = list(in_pieces())
    assert [shuffled[position] for position in (0, 150, 7, 199)] == [order[position] for position in (0, 150, 7, 199)]
    assert source.blocks == [] and len(source.indices) == 4
    joined = Dataset.concatenate(Dataset.range(1), shuffled)
    assert joined[1] != joined[2] and source.blocks == []
    assert all_of(shuffled.batch(1), workers=0) == all_of(in_pieces().batch(1), workers=0)
    assert len(source.blocks) == 20 and len(source.indices) == 6


def test_two_stages_may_read_the_same_blocks_in_turn():
    source = Chunked()
    shuffled = Dataset(source).shuffle(block=10, blocks=4)
    pairs = Dataset.zip(shuffled, shuffled.map(lambda each: -each))
    with mpqueue.Loader(pairs.batch(5), seed=3, workers=0) as loader:
        found = [sample for batch in loader for sample in zip(*(part.tolist() for part in batch), strict=True)]
    assert sorted(one for one, _ in found) == sorted(-other for _, other in found) == list(range(200))
    assert len(source.blocks) <= 44  # at first, the second one replaces the first


def test_samples_of_blocks_may_be_changed():
    class Rows(Chunked):
        def __init__(self):
            super().__init__()
            self.values = np.arange(200)[:, None]

    def zeroed(row):
        value = int(row[0])
        row[:] = 0
        return value

    dataset = Dataset(Rows()).shuffle(block=10, blocks=4).map(zeroed).batch(7)
    with mpqueue.Loader(dataset, seed=5, workers=0) as loader:
        first = next(iter(loader)).tolist()
        loader.seek(0, 0)
        assert [batch.tolist() for batch in loader] == all_of(in_pieces().batch(7), workers=0)
    assert first == all_of(in_pieces().batch(7), workers=0)[0]


def drawn(whole):
    return whole * 1000 + np.random.randint(1000, size=len(whole))


class DrawnWhenRead:
    """The rows of a group, which draws numbers for each request."""

    def __init__(self, whole):
        self.whole = whole

    def __len__(self):
        return len(self.whole)

    def __getitem__(self, positions):
        return drawn(self.whole[positions])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_numbers_that_few_groups_draw_do_not_depend_on_workers(workers):
    def drawn_by_some(whole):
        return drawn(whole) if 10 <= whole[0] < 20 else whole * 1000

    dataset = Dataset(Chunked(40, made=drawn_by_some)).shuffle(block=10, blocks=1)
    alone = all_of(dataset.batch(40), workers=0)  # seeds for each sample of its first batch
    found = all_of(dataset.batch(2), workers=workers)  # here, the first batch draws no number
    assert [sample for batch in found for sample in batch] == alone[0]


def test_streams_draw_the_numbers_of_groups_for_single_samples():
    dataset = Dataset(Chunked(20, made=drawn)).shuffle(block=5, blocks=2)
    whole = list(dataset)  # as a loader reads them
    with mpqueue.Loader(dataset.filter(lambda each: True), lanes=8, seed=0, workers=0) as loader:
        assert sorted(loader) == sorted(whole)


def test_element_by_index_does_not_depend_on_those_before():
    shuffled = Dataset(Chunked(made=drawn)).shuffle(block=10, blocks=4)
    for dataset in (shuffled, Dataset.concatenate(Dataset.range(3), shuffled)):
        first = dataset[3]
        assert [dataset[position] for position in (4, 3)][1] == first == dataset[3]


@pytest.mark.parametrize("made", [None, drawn, DrawnWhenRead])
def test_cached_elements_do_not_depend_on_their_group(tmp_path, made):
    whole = []
    for number, positions in enumerate((range(200), (150, 3), (3, 77))):
        dataset = Dataset(Chunked(made=made)).shuffle(block=10, blocks=4).cache(tmp_path / str(number))
        whole.append(
            {position: int(value) for position, value in zip(positions, dataset.__getitems__(positions), strict=True)}
        )
    assert whole[1].items() <= whole[0].items() and whole[2].items() <= whole[0].items()


class Columns:
    """Samples that are dicts, read by column."""

    def __len__(self):
        return 200

    def __getitem__(self, index):
        return {"number": np.int64(index), "pair": np.array([index, -index])}

    def get_blocks(self, blocks):
        numbers = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        return {"number": numbers, "pair": np.stack([numbers, -numbers], 1)}


@pytest.mark.parametrize("workers", [0, 1])
def test_blocks_may_be_columns(workers):
    shuffled = Dataset(Columns()).shuffle(block=10, blocks=4)
    with mpqueue.Loader(shuffled, batch_size=8, seed=1, workers=workers) as loader:
        batches = list(loader)
    numbers = np.concatenate([batch["number"] for batch in batches])
    assert sorted(numbers.tolist()) == list(range(200))
    assert all((batch["pair"] == np.stack([batch["number"], -batch["number"]], 1)).all() for batch in batches)
    positions = [3, 77, 150]
    assert [set(sample) for sample in shuffled.__getitems__(positions)] == [{"number", "pair"}] * 3


@pytest.mark.parametrize(
    ("kind", "made", "words"),
    [
        (TypeError, list, "Chunked.get_blocks must return an array, another object that is indexed by a list"),
        (TypeError, lambda whole: {"a": list(whole)}, "column 'a' of Chunked.get_blocks must be an array"),
        (
            ValueError,
            lambda whole: {"a": whole, "b": whole[1:]},
            "the columns of Chunked.get_blocks must have equal lengths, got {'a': 40, 'b': 39}",
        ),
        (ValueError, lambda whole: {}, "Chunked.get_blocks must return the 40 samples of these blocks, got 0"),
        (TypeError, lambda whole: None, "got NoneType"),
        (ValueError, lambda whole: whole[1:], "Chunked.get_blocks must return the 40 samples of these blocks, got 39"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_other_results_of_get_blocks_are_refused(kind, made, words, workers):
    with pytest.raises(kind, match=words):
        all_of(Dataset(Chunked(made=made)).shuffle(block=10, blocks=4).batch(7), workers=workers)


def test_blocks_that_cannot_be_read_are_read_sample_by_sample(caplog):
    def raising(whole):
        if 55 in whole:
            raise OSError("block 5 is damaged")
        return whole

    source = Chunked(made=raising)
    found = all_of(Dataset(source).shuffle(block=10, blocks=4).batch(7), workers=0)
    assert found == all_of(in_pieces().batch(7), workers=0)
    assert len(source.blocks) == 20 and 40 <= len(source.indices) <= 80  # with the indices of a batch of two groups
    assert [record.message.count("block 5 is damaged") for record in caplog.records] == [1]


@pytest.mark.slow
def test_interrupt_anywhere_loses_and_repeats_nothing():
    expected = all_of(in_pieces(80).batch(7), workers=0)
    for _after, strike in each_strike(31):
        dataset = Dataset(Chunked(80)).shuffle(block=10, blocks=4).batch(7)
        with mpqueue.Loader(dataset, seed=5, workers=0) as loader:
            assert [batch.tolist() for batch in batches_despite(strike, loader)] == expected


def test_source_that_grows_gets_a_new_order():
    source = Chunked()
    dataset = Dataset(source).shuffle(block=10, blocks=4)
    with mpqueue.Loader(dataset.batch(7), seed=5, workers=0) as loader:
        list(loader)
        source.values = np.arange(210)
        assert sorted(each for batch in loader for each in batch.tolist()) == list(range(210))


def test_row_groups_are_decoded_once_in_an_epoch(tmp_path, monkeypatch):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"number": list(range(40))})
    with parquet.ParquetWriter(tmp_path / "rows.parquet", table.schema) as writer:
        for low, high in pairwise([0, 3, 10, 11, 25, 40]):
            writer.write_table(table.slice(low, high - low))
    source = mpqueue.files.Parquet(str(tmp_path / "rows.parquet"), cache_bytes=0)
    assert source.group_sizes().tolist() == [3, 7, 1, 14, 15]
    decoded = recorded(monkeypatch, type(source), "_decode")
    dataset, kept = Dataset(source).shuffle(block="group", blocks=2).batch(4), set()
    with mpqueue.Loader(dataset, workers=0) as loader:
        for _ in range(2):
            decoded.clear()
            found = [each for batch in loader for each in batch["number"].tolist()]
            assert sorted(found) == list(range(40))
            groups = [group for _, group in decoded]
            assert len(groups) == len(set(groups)) and set(groups) | kept == {0, 1, 2, 3, 4}
            kept = set(groups[-2:])  # in the source's cache, whatever its size


def test_groups_after_another_stage_are_refused():
    with pytest.raises(ValueError, match="needs a source with row groups"):
        Dataset(Grouped()).map(str).shuffle(block="group")
