"""Samples of MosaicML's format: the values of each encoding, compressed shards, and errors of invalid files.

The files in `mosaicml/` were written by MosaicML's own writer, from `sample`, with `write` below.
"""

import json
import pickle
import random
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from helpers.sweeps import part_of
from helpers.table_files import rewrite

from mpqueue.errors import FileError
from mpqueue.files import MDS, mds_values

GOLDEN = Path(__file__).parent / "mosaicml"
SAMPLES = 12

COLUMNS = {
    "bytes": "bytes", "text": "str", "int": "int", "array": "ndarray", "typed": "ndarray:float32",
    "shaped": "ndarray:int16:2,3", "uint8": "uint8", "half": "float16", "double": "float64", "large": "str_int",
    "float": "str_float", "decimal": "str_decimal", "json": "json", "raw": "pil", "jpeg": "jpeg", "png": "png",
    "pngs": "list[png]",
}  # fmt: skip


def image(i):
    from PIL import Image

    return Image.fromarray(np.full((2, 3, 3), i * 10, np.uint8))


def sample(i):
    return {
        "bytes": b"x" * i, "text": f"é{i}", "int": -i, "array": np.arange(1 + i % 5, dtype=np.int64),
        "typed": np.ones((2, 1 + i % 3), np.float32), "shaped": np.full((2, 3), i, np.int16), "uint8": np.uint8(i),
        "half": np.float16(i), "double": np.float64(i / 3), "large": 10**i, "float": i / 7, "decimal": Decimal(i) / 7,
        "json": {"x": [i, None]}, "raw": image(i), "jpeg": image(i), "png": image(i), "pngs": [image(i)] * (i % 3),
    }  # fmt: skip


def write(folder, writer, compression=None):
    with writer(out=str(folder), columns=COLUMNS, compression=compression, size_limit=1 << 13) as out:
        for i in range(SAMPLES):
            out.write(sample(i))


def same(one, other):
    if hasattr(one, "tobytes") and hasattr(one, "mode"):
        # JPEG is lossy, by an amount that depends on the library.
        return (one.mode, one.size) == (other.mode, other.size) and np.allclose(one, other, atol=3)
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and (one == other).all()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def assert_is_sample(found, i):
    wanted = sample(i)
    assert list(found) == sorted(wanted)  # MosaicML's writer sorts the columns
    assert [name for name in wanted if not same(found[name], wanted[name])] == []


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "plain", tmp_path / "mds")


@pytest.mark.parametrize("compression", ["plain", "gz", "zstd"])
def test_samples_equal_the_written_ones(compression):
    if compression == "zstd":
        pytest.importorskip("zstandard")
    source = MDS(GOLDEN / compression)
    assert len(source) == SAMPLES
    for i in range(SAMPLES):
        assert_is_sample(source[i], i)
    for found, i in zip(source.__getitems__([3, 11, 0, 3, -1]), [3, 11, 0, 3, 11], strict=True):
        assert_is_sample(found, i)
    assert repr(source).startswith(f"MDS({len(source.shards())} files, 12 samples, ")
    assert len(source.shards()) > 1


@pytest.mark.filterwarnings("ignore")  # MosaicML's reader leaves files open
def test_samples_equal_those_of_mosaicmls_reader(tmp_path):
    streaming = pytest.importorskip("streaming")
    write(tmp_path / "mds", streaming.MDSWriter, "bz2")
    source, reader = MDS(tmp_path / "mds"), streaming.LocalDataset(str(GOLDEN / "plain"))
    for i in range(SAMPLES):
        theirs = reader[i]
        assert all(same(value, theirs[name]) for name, value in source[i].items())


def test_selected_columns_are_returned_in_order():
    source = MDS(GOLDEN / "plain", ["text", "int"])
    assert list(source[3].items()) == [("text", "é3"), ("int", -3)]
    with pytest.raises(ValueError, match="got 'nope'; the columns are array, bytes"):
        MDS(GOLDEN / "plain", ["nope"])


def test_images_can_be_returned_as_bytes():
    found = MDS(GOLDEN / "plain", decode=False)[2]
    assert found["jpeg"].startswith(b"\xff\xd8")
    assert found["png"].startswith(b"\x89PNG")
    assert [part[:4] for part in found["pngs"]] == [b"\x89PNG"] * 2


def test_arrays_are_writable():
    MDS(GOLDEN / "plain")[2]["shaped"][0] = 1


def test_pickles_are_rejected_unless_allowed(folder):
    """Unpickling can run any code."""
    content = json.loads((folder / "index.json").read_text())
    for shard in content["shards"]:
        shard["column_encodings"][shard["column_names"].index("bytes")] = "pkl"
    (folder / "index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"'bytes' contains pickles.*allow_unsafe_types=True"):
        MDS(folder)
    assert MDS(folder, ["int"])[1] == {"int": -1}
    with pytest.raises(FileError, match="'bytes' cannot be decoded"):
        MDS(folder, allow_unsafe_types=True)[1]
    assert mds_values.decoder("pkl", decode_images=True)(pickle.dumps([1])) == [1]


def set_item(shard, key, position, value):
    """Return a function that changes an item of a part of a shard's description."""
    return lambda content: content["shards"][shard][key].__setitem__(position, value)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda content: content.update(version=1), FileError, "version 1, expected 2"),
        (lambda content: content["shards"][0].update(format="json"), FileError, "format 'mds', got 'json'"),
        (lambda content: content["shards"][0].pop("samples"), FileError, "the key 'samples' is missing"),
        (lambda content: content["shards"][0].update(samples=float("inf")), FileError, "infinity"),
        (set_item(0, "column_encodings", 0, 5), FileError, "'int' object"),
        (lambda content: content["shards"].clear(), FileError, "no shards"),
        (lambda content: content["shards"][0].update(samples=99), FileError, "index.json lists 99"),
        (set_item(1, "column_encodings", 1, "str"), FileError, r"00001\.mds: its columns"),
        (set_item(0, "column_sizes", 1, 4), FileError, "size None, got 4"),
        (set_item(0, "raw_data", "basename", "../../x"), FileError, "inside the folder"),
        (set_item(0, "raw_data", "basename", "/etc/passwd"), FileError, "inside the folder"),
        (set_item(0, "raw_data", "basename", "gone.mds"), FileNotFoundError, r"gone\.mds"),
    ],
)
def test_invalid_index_json_raises(folder, change, error, words):
    content = json.loads((folder / "index.json").read_text())
    change(content)
    (folder / "index.json").write_text(json.dumps(content))
    with pytest.raises(error, match=words):
        MDS(folder)


def test_index_json_that_is_not_json_or_missing_raises(folder):
    for text in ("{", "[" * 100_000):
        (folder / "index.json").write_text(text)
        with pytest.raises(FileError, match="not a valid MDS index"):
            MDS(folder)
    (folder / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.json"):
        MDS(folder)


def test_unknown_encoding_is_named():
    with pytest.raises(ValueError, match=r"encoding must be one of bytes, float16.*got 'nope'"):
        mds_values.decoder("nope", decode_images=True)
    with pytest.raises(ValueError, match="an array encoding must be"):
        mds_values.size_of("ndarray:complex64")


@pytest.mark.parametrize("compression", ["plain", "gz"])
def test_damaged_bytes_raise_file_errors_or_change_values(tmp_path, compression):
    folder = shutil.copytree(GOLDEN / compression, tmp_path / "mds")
    path = next(iter(sorted(folder.glob("shard.00000*"))))
    data, dice, refused = path.read_bytes(), random.Random(1), 0
    columns = sorted(COLUMNS.keys() - {"raw", "jpeg", "png", "pngs"})  # Pillow warns about damaged images
    for turn in range(part_of(40)):
        bad = bytearray(data)
        for _ in range(3):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        rewrite(path, bad)
        try:
            source = MDS(folder, columns, index=str(tmp_path / str(turn)))
            for i in range(len(source)):
                source[i]
        except FileError:
            refused += 1
    assert refused >= part_of(4)


def test_decompressed_copy_of_a_shard_is_preferred(tmp_path):
    folder = shutil.copytree(GOLDEN / "gz", tmp_path / "mds")
    for path in (GOLDEN / "plain").glob("*.mds"):
        shutil.copy(path, folder)
    for path in folder.glob("*.gz"):
        path.unlink()
    assert_is_sample(MDS(folder)[5], 5)


def test_shards_are_a_source_of_their_samples():
    for compression in ("plain", "gz"):
        shards = MDS(GOLDEN / compression, ["int"]).shards()
        assert [found["int"] for shard in shards for found in shard] == [-i for i in range(SAMPLES)]
