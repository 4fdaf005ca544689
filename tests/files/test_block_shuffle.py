"""A shuffle by blocks of files: each group is read once, and no sample is lost or changed."""

import numpy as np
import pytest

import mpqueue
from mpqueue.files.parquet import Parquet

pytest.importorskip("pyarrow")


def table(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"number": np.arange(1000)}), tmp_path / "rows.parquet", row_group_size=30)
    return Parquet(tmp_path / "rows.parquet", cache_bytes=0, index=tmp_path)


@pytest.mark.parametrize("block", ["group", 30, 7])
def test_each_row_group_is_decoded_once_for_a_group_of_blocks(tmp_path, monkeypatch, block):
    decoded = []
    decode = Parquet._decode
    monkeypatch.setattr(Parquet, "_decode", lambda self, group: decoded.append(group) or decode(self, group))
    dataset = mpqueue.Dataset(table(tmp_path)).shuffle(block=block, blocks=4)
    with mpqueue.Loader(dataset, batch_size=16, seed=1, workers=0) as loader:
        epochs = [[number for batch in loader for number in batch["number"].tolist()] for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(1000))] * 2
    assert epochs[0] != epochs[1]
    if block != 7:  # smaller blocks share row groups
        assert len(decoded) <= 2 * 34
        opened = [{number // 30 for number in epochs[0][at : at + 100]} for at in range(0, 1000, 100)]
        assert max(map(len, opened)) <= 8


def test_random_places_have_the_same_rows(tmp_path):
    shuffled = mpqueue.Dataset(table(tmp_path)).shuffle(block="group", blocks=4)
    indices = [row["number"] for row in shuffled]
    places = np.random.default_rng(1).permutation(1000).tolist()
    assert [row["number"] for row in shuffled.__getitems__(places)] == [indices[place] for place in places]
