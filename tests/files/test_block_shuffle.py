"""A shuffle by blocks of files: each group is read once, and no sample is lost or changed."""

import numpy as np
import pytest
from helpers.file_parts import arrays_of
from helpers.table_files import write_parquet
from helpers.wrapped_functions import recorded

import mpqueue
from mpqueue.files.arrow.parquet import Parquet
from mpqueue.files.sources.rows import TableRows

pa = pytest.importorskip("pyarrow")


def table(tmp_path):
    path = write_parquet(tmp_path / "rows.parquet", pa.table({"number": np.arange(1000)}), rows=30)
    return Parquet(path, cache_bytes=0, index=tmp_path)


@pytest.mark.parametrize("block", ["group", 30, 7])
def test_each_row_group_is_decoded_once_for_a_group_of_blocks(tmp_path, monkeypatch, block):
    decoded = recorded(monkeypatch, Parquet, "_decode")
    dataset = mpqueue.Dataset(table(tmp_path)).shuffle(block=block, blocks=4)
    with mpqueue.Loader(dataset, batch_size=16, seed=1, workers=0) as loader:
        epochs = [[number for batch in loader for number in batch["number"].tolist()] for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(1000))] * 2
    assert epochs[0] != epochs[1]
    if block != 7:  # smaller blocks share row groups
        assert len(decoded) <= 2 * 34
        opened = [{number // 30 for number in epochs[0][at : at + 100]} for at in range(0, 1000, 100)]
        assert max(map(len, opened)) <= 8


TEXTS = [f"text number {number:030}" for number in range(1000)]
COLUMNS = {  # pyarrow has no `take` for most of them
    "string": lambda pa: pa.array(TEXTS),
    "matrices": lambda pa: pa.array([[[text]] for text in TEXTS], pa.list_(pa.list_(pa.string_view(), 1), 1)),
    "string_view": lambda pa: pa.array(TEXTS, pa.string_view()),
    "binary_view": lambda pa: pa.array([text.encode() for text in TEXTS], pa.binary_view()),
    "list": lambda pa: pa.array([[text] * (at % 3) for at, text in enumerate(TEXTS)], pa.list_(pa.string_view())),
    "large list": lambda pa: pa.array([[text] for text in TEXTS], pa.large_list(pa.string_view())),
    "list of two": lambda pa: pa.array([[text] * 2 for text in TEXTS], pa.list_(pa.string_view(), 2)),
    "struct": lambda pa: pa.array([{"a": text} for text in TEXTS], pa.struct([("a", pa.string_view())])),
    "missing values": lambda pa: pa.array(
        [text if at % 3 else None for at, text in enumerate(TEXTS)], pa.string_view()
    ),
    "runs": lambda pa: pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 1001), pa.int32()), pa.array(TEXTS)),
    "map": lambda pa: pa.array([[("a", text)] for text in TEXTS], pa.map_(pa.string(), pa.string_view())),
}


@pytest.fixture
def column(request):
    if not hasattr(pa, "string_view"):
        pytest.skip("this pyarrow has no views")
    return COLUMNS[request.param](pa)


@pytest.mark.parametrize("column", COLUMNS, indirect=True)
def test_blocks_of_columns_that_pyarrow_cannot_take_from(tmp_path, column, caplog):
    with pa.ipc.new_file(tmp_path / "rows.arrow", pa.schema([("text", column.type)])) as writer:
        writer.write_table(pa.table({"text": column}), max_chunksize=100)
    source = mpqueue.files.Arrow(tmp_path / "rows.arrow", index=tmp_path)
    found = list(mpqueue.Dataset(source).shuffle(block=7, blocks=4))
    expected = list(mpqueue.Dataset.range(1000).shuffle(block=7, blocks=4))
    assert found == [source[index] for index in expected]
    assert not caplog.records


FORMS = ["string", "string_view", "list", "large list", "matrices", "struct", "runs"]


@pytest.mark.parametrize("column", FORMS, indirect=True)
def test_a_block_has_its_own_memory(column):
    for array in (column, pa.chunked_array([column[:15], column[15:]])):
        part = TableRows(["text"], [array], 1000).part(10, 20)
        assert [row["text"] for row in part] == array[10:20].to_pylist()
        (kept,) = arrays_of(part)
        chunks = kept.chunks if isinstance(kept, pa.ChunkedArray) else [kept]
        assert sum(len(each) for chunk in chunks for each in chunk.buffers() if each) < 3000


def test_random_places_have_the_same_rows(tmp_path):
    shuffled = mpqueue.Dataset(table(tmp_path)).shuffle(block="group", blocks=4)
    indices = [row["number"] for row in shuffled]
    positions = np.random.default_rng(1).permutation(1000).tolist()
    assert [row["number"] for row in shuffled.__getitems__(positions)] == [indices[position] for position in positions]
