"""Every public signature in typical use: checked by mypy and pyright, never run."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import jax
import keras
import numpy as np
import tensorflow as tf

import mpqueue
import mpqueue.jax
import mpqueue.keras
import mpqueue.tf


class Data(mpqueue.Sequence):
    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return mpqueue.empty((2, 3), np.float32), None

    def __len__(self) -> int:
        return 3

    def on_epoch_end(self) -> None:
        mpqueue.stack([np.zeros(3), [1.0, 2.0, 3.0]], axis=-1)


def numbers() -> Iterator[int]:
    info = mpqueue.worker_info()
    yield 0 if info is None else info.id + info.num_workers + info.shard_id + info.num_shards


def enqueue() -> None:
    with mpqueue.OrderedEnqueuer(
        Data(), True, False, seed=1, ordered=False, start_method="spawn", restarts=0
    ) as enqueuer:
        enqueuer.start(2, 10)
        for _batch in enqueuer.get():
            enqueuer.stop(1.5)
        assert_type(enqueuer.queue.qsize(), int)
        assert_type(enqueuer.queue.empty(), bool)
        assert_type(enqueuer.is_running(), bool)
        enqueuer.join_end_of_epoch()
    generator = mpqueue.GeneratorEnqueuer(numbers, use_multiprocessing=True, random_seed=3, batch_timeout=1.0)
    generator.start(workers=0)
    counts: mpqueue.Statistics = generator.statistics()
    assert_type(counts.wait_s, float)
    mpqueue.shutdown()


async def wait(loader: mpqueue.Loader, enqueuer: mpqueue.OrderedEnqueuer, consumer: mpqueue.Consumer) -> None:
    for batches in (loader, enqueuer, consumer):
        async for _batch in batches:
            await anext(aiter(batches))


def load() -> None:
    loader = mpqueue.Loader(
        numbers, workers=None, backend="thread", max_queue_size=3, worker_init=enqueue, max_batch_bytes=10, copy=True
    )
    mpqueue.Loader(numbers, trace="run.json", progress=True, backend="ray", ray_options={"num_cpus": 1})
    for _ in loader:
        loader.load_state_dict(loader.state_dict())
        loader.load_state_dict([loader.state_dict()])
    samples = mpqueue.Loader(
        [1, 2], batch_size=2, collate=sum, drop_last=True, sampler=None, batch_sampler=[[0, 1]], shard=(0, 2),
        on_error="skip", max_errors=3, lanes=None, epoch_batches=None, threads=2,
    )  # fmt: skip
    assert_type(samples.epoch, int)
    samples.close()
    assert_type(samples.statistics().skipped, int)
    mpqueue.Loader(Data(), shard="auto", num_workers=2)  # type: ignore[call-overload]  # torch's name
    assert_type(len(loader), int)
    assert_type(mpqueue.rng(), np.random.Generator)
    loader.stop(timeout=2)


def join() -> None:
    numbers = mpqueue.Dataset.range(3)
    joined: mpqueue.Dataset = numbers.concatenate(numbers, numbers).zip(numbers).mix([numbers], [0.5, 0.5], stop="all")
    joined = mpqueue.Dataset.mix([joined, numbers], weights=[1, 2], stop="never")
    joined = mpqueue.Dataset.mix({"a": joined, "b": numbers}, weights={"a": 1, "b": 2.5})
    joined = mpqueue.Dataset.mix({"a": joined, "b": numbers}, [(0, {"a": 1, "b": 2.5}), (10, {"a": 0, "b": 1})])
    joined = mpqueue.Dataset.mix([joined, numbers], [(0, [1, 2]), (10, (0, 1))])
    joined = mpqueue.Dataset.zip(joined, mpqueue.Dataset.concatenate(numbers, joined)).take(3)
    del joined


def transform() -> None:
    train, test = mpqueue.Dataset.range(3).split([0.5, 0.5], seed=1)
    dataset: mpqueue.Dataset = train.sort(lambda number: -number).map(lambda number, name: (number, name), with_id=True)
    dataset = test.map(str, threads=2).scan(0, lambda count, text: (count + 1, text)).take_while(bool)
    dataset = dataset.rename_columns({"a": "b"}).select_columns("b").remove_columns(["b"])
    print(dataset.get(3), dataset.locate(("web", 3)).path)
    position: mpqueue.files.Location = mpqueue.files.JSONLines("a.jsonl").locate(3)
    assert_type(position.row, int)
    assert_type(position.start, int | None)


def attach() -> None:
    with mpqueue.attach(
        "photos", rank=0, timeout=30, join="now", reconnect=True, writable="copy", allow_pickle=False, trace="run.json"
    ) as consumer:
        for _ in consumer:
            print(len(consumer))
    assert_type(consumer.epoch, int)
    assert_type(consumer.statistics().offered, int)
    taken: mpqueue.Consumer = mpqueue.attach("photos", writable=True)  # type: ignore[arg-type]  # others read it, too
    taken.close()


def fit(model: keras.Model, train: keras.utils.PyDataset) -> None:
    with mpqueue.keras.install() as installation:
        fast = mpqueue.keras.accelerate(
            Data(), workers=None, max_queue_size=4, seed=1, start_method="spawn", batch_timeout=2.5, copy=True
        )
        print(installation, len(fast))
    model.fit(mpqueue.keras.accelerate(train, workers=2), epochs=3)
    model.fit(mpqueue.keras.accelerate(mpqueue.Loader(Data(), workers=1)))
    mpqueue.keras.accelerate(Data(), 2, use_multiprocessing=False, ordered=False, restarts=1, worker_init=load)


def devices(model: keras.Model, total: jax.Array) -> tf.data.Dataset:
    with mpqueue.Loader(Data(), workers=1) as loader:
        for pixels, _ in mpqueue.jax.device_iterator(loader, sharding=None, prefetch=3):
            total += pixels.sum()
        dataset: tf.data.Dataset = mpqueue.tf.dataset(loader)
        model.fit(dataset.repeat(2), steps_per_epoch=8)
        return dataset


def serve() -> None:
    with mpqueue.Server(
        "numbers", Data(), mode="broadcast", world=2, slow="skip", grace_s=1.0, lease_timeout=None, journal="taken",
        allow_uids=[0],
    ) as server:  # fmt: skip
        assert_type(server.wait(1.0), bool)
    mpqueue.Server("numbers", Data(), shard=(0, 2))  # type: ignore[call-arg]  # a loader's


def enqueue_as_in_keras_3() -> None:
    sequence = Data(workers=2, use_multiprocessing=True, max_queue_size=4)
    by_name = mpqueue.OrderedEnqueuer(sequence, workers=2, use_multiprocessing=True, max_queue_size=10, shuffle=False)
    by_position = mpqueue.OrderedEnqueuer(sequence, 2, True, 10, False, seed=1)
    for enqueuer in (by_name, by_position):
        enqueuer.start()
        enqueuer.start(max_queue_size=3)


def fail() -> None:
    try:
        load()
    except mpqueue.errors.WorkerDied as died:
        assert_type(died.signal_name, str | None)
    except mpqueue.errors.OutOfRangeError as end:
        assert_type(end.error_code, int)


def pairs() -> Iterator[tuple[str, int]]:
    info = mpqueue.worker_info()
    yield from [("a", 1), ("b", 2)][info.shard_id :: info.num_shards]


def joined(samples: list[tuple[str, int]]) -> bytes:
    return ",".join(text for text, _ in samples).encode()


def infer(unknown: Any, unnamed: mpqueue.Loader, **options: Any) -> None:
    """The type of a batch follows from the source."""
    assert_type(mpqueue.Loader(Data()), mpqueue.Loader[tuple[np.ndarray, None]])
    assert_type(mpqueue.Loader([1, 2], workers=2, shuffle=True), mpqueue.Loader[int])
    assert_type(mpqueue.Loader(pairs, lanes=4), mpqueue.Loader[tuple[str, int]])
    assert_type(mpqueue.Loader(pairs, batch_size=2, collate=joined), mpqueue.Loader[bytes])
    assert_type(mpqueue.Loader([1, 2], batch_size=2), mpqueue.Loader[Any])
    assert_type(mpqueue.Loader([1, 2], balance=mpqueue.Balance([3, 4], max_cost=5)), mpqueue.Loader[Any])
    assert_type(mpqueue.Loader(unknown, workers=2), mpqueue.Loader[Any])
    assert_type(mpqueue.Loader(unknown, batch_size=2), mpqueue.Loader[Any])
    assert_type(mpqueue.Loader([1, 2], **options), mpqueue.Loader[Any])
    chosen: mpqueue.Loader[dict[str, np.ndarray]] = mpqueue.Loader([{"x": 1}], batch_size=2)
    for batch in chosen:
        assert_type(batch, dict[str, np.ndarray])
    for some in unnamed:
        assert_type(some, Any)
    for text, number in mpqueue.Loader(pairs):
        assert_type((text, number), tuple[str, int])
    assert_type(next(mpqueue.OrderedEnqueuer(Data(), True).get()), tuple[np.ndarray, None])
    assert_type(next(mpqueue.GeneratorEnqueuer(pairs).get()), tuple[str, int])
    consumer: mpqueue.Consumer[tuple[str, int]] = mpqueue.attach("pairs")
    for pair in consumer:
        assert_type(pair, tuple[str, int])


def infer_elements() -> None:
    """The type of an element follows from the source and the stages."""
    numbers = mpqueue.Dataset.range(10)
    texts = numbers.filter(lambda number: number > 2).map(str)
    assert_type(texts, mpqueue.Dataset[str])
    assert_type(texts.shuffle(buffer=3).take(2).enumerate(), mpqueue.Dataset[tuple[int, str]])
    assert_type(numbers.map(lambda number, name: (number, str(name)), with_id=True)[0], tuple[int, str])
    assert_type(texts.flat_map(lambda text: [len(text)]), mpqueue.Dataset[int])
    assert_type(texts.scan(0, lambda count, text: (count + 1, text)), mpqueue.Dataset[str])
    assert_type(texts.batch(4, collate=len), mpqueue.Dataset[int])
    assert_type(texts.batch(4), mpqueue.Dataset[Any])
    assert_type(texts.window(4, 2, drop_last=True), mpqueue.Dataset[list[str]])
    assert_type(mpqueue.Dataset(pairs), mpqueue.Dataset[tuple[str, int]])
    assert_type(mpqueue.Loader(texts), mpqueue.Loader[str])


class Remote:
    async def __getitem__(self, index: int) -> tuple[int, str]:
        return index, ""

    def __len__(self) -> int:
        return 3


async def answers() -> AsyncIterator[int]:
    yield 1


async def decoded(number: int) -> str:
    return str(number)


async def is_kept(text: str) -> bool:
    return bool(text)


def wait_for_answers() -> None:
    assert_type(mpqueue.Loader(Remote(), concurrency=9), mpqueue.Loader[tuple[int, str]])
    assert_type(mpqueue.Loader(Remote(), batch_size=2, collate=len), mpqueue.Loader[int])
    assert_type(mpqueue.Loader(answers), mpqueue.Loader[int])
    decoding = mpqueue.Dataset.range(3).map(decoded, concurrency=2).filter(is_kept)
    assert_type(decoding, mpqueue.Dataset[str])
