"""Peers that read common file formats, each with its best method, in one process, endlessly.

They yield shuffled batches of bytes of JPEG files: by index if the peer supports it, otherwise with a buffer of
`BUFFER`.
"""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parts.benchmark.peers.torch import batches_of

BATCH, BUFFER, SEED = 32, 1000, 1
Batches = Iterator[list[bytes]]


def permutations(length: int) -> Iterator[list[int]]:
    """Yield batches of sample numbers endlessly, shuffled in each epoch."""
    draw = np.random.default_rng(SEED)
    while True:
        order = draw.permutation(length).tolist()
        yield from (order[at : at + BATCH] for at in range(0, length, BATCH))


def decoded(data: bytes) -> np.ndarray:
    """Return an image as an RGB array."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def _batches(samples: Iterable[bytes]) -> Batches:
    left = iter(samples)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


def _endless(samples: Any) -> Iterator[Any]:
    return itertools.chain.from_iterable(itertools.repeat(samples))


def webdataset(paths: list[str]) -> Batches:
    """Use WebDataset with shuffled shards and a buffer."""
    import webdataset

    shards = webdataset.WebDataset(paths, shardshuffle=len(paths), seed=SEED, empty_check=False)
    return _batches(sample["jpg"] for sample in _endless(shards.shuffle(BUFFER)))


def _streamed(kind: str, paths: list[str], *casts: Any) -> Iterator[Any]:
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset(kind, data_files=paths, split="train", streaming=True)
    for column, feature in casts:
        found = found.cast_column(column, feature)
    return _endless(found.shuffle(SEED, buffer_size=BUFFER))


def datasets_tar(paths: list[str]) -> Batches:
    """Use Hugging Face's streaming reader of WebDataset archives, without decoding."""
    import datasets

    samples = _streamed("webdataset", paths, ("jpg", datasets.Image(decode=False)))
    return _batches(sample["jpg"]["bytes"] for sample in samples)


def datasets_parquet(paths: list[str]) -> Batches:
    """Use Hugging Face's streaming reader of Parquet."""
    return _batches(sample["jpg"] for sample in _streamed("parquet", paths))


def datasets_arrow(paths: list[str]) -> Batches:
    """Use Hugging Face's memory-mapped datasets by index, with many rows at once."""
    import datasets

    found = datasets.concatenate_datasets([datasets.Dataset.from_file(path) for path in paths])
    return (found[numbers]["jpg"] for numbers in permutations(len(found)))


def datasets_json_lines(paths: list[str]) -> Batches:
    """Use Hugging Face's streaming reader of JSON lines."""
    return _batches(sample["text"] for sample in _streamed("json", paths))


def torch_parquet(paths: list[str]) -> Batches:
    """Use a typical `torch.utils.data.IterableDataset` with pyarrow: shuffled row groups, and a buffer of rows."""
    from pyarrow import parquet
    from torch.utils.data import DataLoader, IterableDataset

    class Rows(IterableDataset[bytes]):
        """The rows of all groups."""

        def __iter__(self) -> Iterator[bytes]:
            draw = np.random.default_rng(SEED)
            files = [parquet.ParquetFile(path) for path in paths]
            groups = [(file, number) for file in files for number in range(file.num_row_groups)]
            buffer: list[bytes] = []
            while True:
                for at in draw.permutation(len(groups)).tolist():
                    file, number = groups[at]
                    buffer += file.read_row_group(number, columns=["jpg", "cls"]).column("jpg").to_pylist()
                    if len(buffer) >= BUFFER:
                        draw.shuffle(buffer)
                        while len(buffer) > BUFFER - 100:
                            yield buffer.pop()

    return iter(DataLoader(Rows(), BATCH, collate_fn=list))


def torch_arrow(paths: list[str]) -> Batches:
    """Use a typical `torch.utils.data.Dataset` with pyarrow: memory-mapped files, with many rows at once."""
    import pyarrow as pa
    from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

    class Rows(Dataset[bytes]):
        """The rows of all files."""

        def __init__(self) -> None:
            tables = [pa.ipc.open_stream(pa.memory_map(path)).read_all() for path in paths]
            self.table = pa.concat_tables(tables)

        def __len__(self) -> int:
            return len(self.table)

        def __getitem__(self, number: int) -> bytes:
            found: bytes = self.table.column("jpg")[number].as_py()
            return found

    rows = Rows()
    sampler = RandomSampler(rows)  # type: ignore[arg-type]
    return _endless(DataLoader(rows, batch_sampler=BatchSampler(sampler, BATCH, drop_last=False), collate_fn=list))


class JpegFiles:
    """The files of a folder, as a typical dataset for torch.

    Args:
        folder: Folder with a subfolder for each class.
    """

    def __init__(self, folder: str) -> None:
        self.names = sorted(str(path) for path in Path(folder).glob("*/*.jpg"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Any:
        with open(self.names[number], "rb") as file:
            return file.read()


def torch_folder(paths: list[str]) -> Batches:
    """Use a typical map-style dataset that opens a file for each sample."""
    from torch.utils.data import DataLoader

    return _endless(DataLoader(JpegFiles(paths[0]), BATCH, shuffle=True, collate_fn=list))  # type: ignore[arg-type]


class DecodedFiles(JpegFiles):
    """The same files, decoded with Pillow."""

    def __getitem__(self, number: int) -> Any:
        return decoded(super().__getitem__(number))


def torch_decoded(folder: str, num_workers: int) -> contextlib.AbstractContextManager[Iterator[Any]]:
    """Use torch's loader with its default collate function, into shared memory."""
    from torch.utils.data import RandomSampler

    files: Any = DecodedFiles(folder)
    sampler = RandomSampler(files, num_samples=1 << 30, replacement=True)
    return batches_of(files, BATCH, sampler=sampler, num_workers=num_workers)


@contextlib.contextmanager
def spdl_decoded(folder: str, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use SPDL with threads and the same decoder, because SPDL's own decoder needs FFmpeg, which is not in a wheel."""
    from spdl.pipeline import PipelineBuilder

    files = DecodedFiles(folder)

    def batch(numbers: list[int]) -> np.ndarray:
        return np.stack([files[number] for number in numbers])

    builder = PipelineBuilder().add_source(permutations(len(files))).pipe(batch, concurrency=num_workers)
    pipeline = builder.add_sink(2 * num_workers).build(num_threads=num_workers)
    with pipeline.auto_stop():
        yield iter(pipeline)


def tensorflow_tfrecord(paths: list[str]) -> Batches:
    """Use `tf.data` with the records of all files in a buffer."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(paths, num_parallel_reads=len(paths)).repeat()
    batches = records.shuffle(BUFFER, SEED).batch(BATCH).prefetch(2).as_numpy_iterator()
    return (batch.tolist() for batch in batches)


def grain_array_record(paths: list[str]) -> Batches:
    """Use Grain's source of ArrayRecord files, with many records at once."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which programs without absl's app must mark as parsed
    found = grain.sources.ArrayRecordDataSource(paths)
    return (found.__getitems__(numbers) for numbers in permutations(len(found)))
