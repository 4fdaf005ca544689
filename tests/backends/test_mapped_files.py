"""Memory maps in a source: workers map the same file, without a copy."""

import os
import pickle
import tempfile

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.one_epoch import one_epoch

from mpqueue import Loader
from mpqueue.backends.sending.source_send import take_image

pytestmark = pytest.mark.shared_fork_server

ROWS = 40_000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows with a name"
    np.arange(ROWS * 4, dtype=np.float32).tofile(path)
    return path


def mapped(path, mode="r", **options):
    return np.memmap(path, np.float32, mode, **{"shape": (ROWS, 4), **options})


def map_of(array):
    """Return the map that an array is a view of."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def saved(path):
    np.save(path.with_suffix(".npy"), np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4))
    return np.load(path.with_suffix(".npy"), mmap_mode="r")


VIEWS = {
    "whole": mapped,
    "with an offset": lambda path: mapped(path, offset=64, shape=(ROWS - 4, 4)),
    "slice": lambda path: mapped(path)[17:1000:3, 1:],
    "backwards": lambda path: mapped(path)[::-2, ::-1],
    "transposed": lambda path: mapped(path).T,
    "plain": lambda path: np.asarray(mapped(path))[5:],
    "of another type": lambda path: mapped(path).view(np.uint16)[1:, 1:],
    "of fields": lambda path: mapped(path).view([("a", "f4"), ("b", "f8"), ("c", "f4")])["b"],
    "broadcast": lambda path: np.broadcast_to(mapped(path)[3], (5, 4)),
    "from a buffer": lambda path: np.frombuffer(memoryview(map_of(mapped(path))), np.float32, 100, 8),
    "saved": saved,
    "written": lambda path: mapped(path, "r+"),
    "private": lambda path: mapped(path, "c"),
}


def size_of(image):
    return len(image.data) + sum(buffer.nbytes for buffer in image.buffers)


def received(source, **options):
    image = take_image(source, **options)
    return image, pickle.loads(image.data, buffers=[np.frombuffer(buffer, np.uint8).copy() for buffer in image.buffers])


@pytest.mark.parametrize("view", VIEWS)
def test_view_of_a_map_is_restored_as_a_view_of_a_map(view, path):
    array = VIEWS[view](path)
    image, again = received([array])
    assert size_of(image) < 2000
    assert not image.buffers
    assert type(again[0]) is type(array)
    assert again[0].dtype == array.dtype
    assert again[0].strides == array.strides
    assert again[0].flags.writeable == array.flags.writeable
    np.testing.assert_array_equal(again[0], array)
    if isinstance(array, np.memmap):
        assert (again[0].filename, again[0].offset, again[0].mode) == (array.filename, array.offset, array.mode)
    assert take_image([array]).fingerprint == image.fingerprint


def test_many_views_of_one_map_are_restored_as_one_map(path):
    array = mapped(path)
    _, again = received([array[number : number + 7] for number in range(0, ROWS, 100)])
    assert np.shares_memory(again[0], again[0][2:])
    assert len({id(map_of(view)) for view in again}) == 1


class Rows:
    """The sums of the first rows, after an addition to each value."""

    def __init__(self, rows, added=0):
        self.rows, self.added = rows, added

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.added:
            self.rows[index] += self.added
        with open("/proc/self/maps") as maps:
            is_mapped = "rows with a name" in maps.read()
        return float(self.rows[index].sum()), is_mapped


SUMS = [(6.0, True), (22.0, True), (38.0, True), (54.0, True)]


@pytest.mark.sample(1)
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_workers_map_the_file(start_method, path):
    assert one_epoch(Rows(mapped(path)), workers=2, start_method=start_method) == SUMS


def test_running_workers_see_the_trainers_writes_to_the_file(path):
    rows = mapped(path, "r+")
    with Loader(Rows(rows), workers=1) as loader:
        assert list(loader) == SUMS
        image = take_image(rows)
        rows[:4] += 1
        assert take_image(rows).fingerprint == image.fingerprint
        assert [total for total, _ in loader] == [10.0, 26.0, 42.0, 58.0]


def test_workers_writes_reach_the_file_only_if_the_map_is_shared(path):
    with Loader(Rows(mapped(path, "c"), 1), workers=2) as loader:
        assert [total for total, _ in loader] == [10.0, 26.0, 42.0, 58.0]
    assert mapped(path)[0].sum() == 6
    with Loader(Rows(mapped(path, "r+"), 1), workers=2) as loader:
        assert len(list(loader)) == 4
    assert mapped(path)[0].sum() == 10


def test_changes_of_a_private_map_are_sent(path):
    rows = mapped(path, "c")
    before = take_image(rows)
    rows[1] = 100
    image, again = received(rows)
    assert image.fingerprint != before.fingerprint
    np.testing.assert_array_equal(again, rows)
    with Loader(Rows(rows), workers=2) as loader:
        assert [total for total, _ in loader] == [6.0, 400.0, 38.0, 54.0]


def replace(path):
    np.zeros(ROWS * 4, np.float32).tofile(f"{path}.new")
    os.replace(f"{path}.new", path)


@pytest.mark.parametrize("change", [os.unlink, replace])
def test_map_of_a_deleted_or_replaced_file_is_sent_by_value_in_one_copy(change, path):
    rows = mapped(path)
    change(path)
    image, again = received(rows)
    assert [buffer.nbytes for buffer in image.buffers] == [rows.nbytes]
    assert type(again) is np.memmap
    np.testing.assert_array_equal(again, rows)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_map_of_a_file_that_has_got_odd_characters_in_its_name_is_found(mode, path):
    rows = mapped(path, mode)
    path.rename(path.with_name("carriage\rreturn, line\nfeed, two  spaces"))
    image, again = received(rows)
    assert not image.buffers
    np.testing.assert_array_equal(again, rows)


def test_map_without_a_file_is_sent_by_value(path):
    with tempfile.TemporaryFile(dir=path.parent) as file:
        rows = np.memmap(file, np.float32, "w+", shape=(ROWS, 4))
        rows[7] = 7
        np.testing.assert_array_equal(received(rows)[1], rows)


def test_maps_are_sent_to_other_machines_by_value(path):
    rows = mapped(path)
    image, again = received([rows, np.asarray(rows)[1:]], is_local=False)
    assert len(image.buffers) == 2
    np.testing.assert_array_equal(again[0], rows)


@pytest.mark.parametrize("change", [replace, lambda path: os.truncate(path, 5000)])
def test_file_that_changes_in_transfer_is_an_error_that_names_it(change, path):
    image = take_image(mapped(path))
    change(path)
    with pytest.raises(OSError, match="rows with a name was replaced or truncated"):
        pickle.loads(image.data, buffers=[])


def test_map_split_by_madvise_is_one_map(path):
    rows = mapped(path)
    map_of(rows).madvise(1, 0, 8192)  # MADV_RANDOM
    assert not received(rows)[0].buffers


def arrow_table(path, rows=50_000, **options):
    """Write a table with several record batches, and return it as pyarrow maps it."""
    pa = pytest.importorskip("pyarrow")
    texts = pa.array([None if n % 7 == 0 else f"text {n}" for n in range(rows)])
    table = pa.table({
        "number": np.arange(rows),
        "text": texts,
        "list": pa.array([[n, n + 1] for n in range(rows)]),
        "word": pa.array([f"w{n % 50}" for n in range(rows)]).dictionary_encode(),
        "pair": pa.StructArray.from_arrays([pa.array(range(rows)), texts], ["a", "b"]),
    })  # fmt: skip
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=20_000)
    return pa.ipc.open_file(pa.memory_map(str(path), **options)).read_all()


ARROW_VIEWS = {
    "table": lambda table: table,
    "slice": lambda table: table.slice(777, 30_000),
    "column": lambda table: table["text"],
    "array": lambda table: table["list"].chunk(1),
    "batch": lambda table: table.to_batches()[1],
}


@pytest.mark.parametrize("view", ARROW_VIEWS)
def test_mapped_pyarrow_tables_are_mapped_again(view, path):
    table = ARROW_VIEWS[view](arrow_table(path))
    image, again = received([table])
    assert size_of(image) < 20_000
    assert not image.buffers
    assert type(again[0]) is type(table)
    assert again[0].equals(table)
    again[0].validate(full=True)


@pytest.mark.parametrize("change", ["replaced", "deleted", "written", "in memory", "on another machine"])
def test_pyarrow_tables_that_cannot_be_mapped_again_are_sent_by_value(change, path):
    table = arrow_table(path, **({"mode": "r+"} if change == "written" else {}))
    if change == "replaced":
        arrow_table(path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)
    elif change == "deleted":
        path.unlink()
    elif change == "in memory":
        table = type(table).from_pylist(table.slice(0, 9000).to_pylist())
    image, again = received([table], is_local=change != "on another machine")
    assert size_of(image) > 400_000 or change == "in memory"
    assert again[0].equals(table)


# Arrow may start a thread when it maps a file; a fork server cannot fork then.
@pytest.mark.filterwarnings("ignore:mpqueue. loading the source started threads:RuntimeWarning")
def test_loader_reads_a_mapped_table(path):
    table = arrow_table(path)
    source = Computed(lambda index: table["text"][index * 2500].as_py() or "none", 20)
    assert one_epoch(source, workers=2) == [source[index] for index in range(20)]
