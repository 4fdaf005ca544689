"""Samples that kill their workers, raise or are excluded: a stream loses only these samples.

The batches of excluded and raising samples are compared by the player of ``tests/model``.
"""

import itertools
import json
import os
import signal
import threading

import numpy as np
import pytest
from helpers.computed_source import AtOnce, Computed
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import BatchTimeout, TooManyErrors, WorkerDied
from mpqueue.plan.states.compact import restored

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("always_saved")]

FATAL = {7, 29}
HANGING = "FOLDER_OF_HANGING_PROCESSES"  # environment variable: a sample records its number there instead of killing
LANES = 4


class Broken(Exception):
    """An error raised by a sample instead of a crash."""


def fatal(number):
    if number in FATAL:
        if HANGING in os.environ:
            DeclaredHangs(os.environ[HANGING]).declare()
            threading.Event().wait()
        if os.environ.get("KILLS"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise Broken
    return number


def items(number):
    yield number
    yield fatal(number)
    yield -number


def is_kept(number):
    return fatal(number) % 3 > 0


def joined(numbers):
    return np.array([fatal(number) for number in numbers])


def length_of(number):
    return 1 + fatal(number) % 5


numbers = mpqueue.Dataset.range(60)
PIPELINES = {
    "map": lambda: numbers.map(fatal).filter(lambda number: number % 5 > 0).shuffle(buffer=6).batch(3),
    "map in threads": lambda: numbers.map(fatal, threads=3).shuffle(buffer=6).batch(3),
    "filter": lambda: numbers.filter(is_kept).enumerate().map(lambda pair: pair[1]).batch(2),
    "filter in threads": lambda: numbers.shuffle(buffer=5).filter(is_kept, threads=2).batch(2),
    "after a buffer": lambda: numbers.shuffle(buffer=6).map(fatal).batch(4, drop_last=True),
    "items": lambda: numbers.flat_map(items).shuffle(buffer=8).batch(4),
    "collate": lambda: numbers.shuffle(buffer=4).batch(3, collate=joined),
    "buckets": lambda: numbers.shuffle(buffer=4).bucket(length_of, [3], [3, 2], collate=lambda some: np.array(some)),
    "passes": lambda: numbers.take(24).map(fatal).shuffle(buffer=4).repeat(2).batch(2),
    "a source": lambda: mpqueue.Dataset(Computed(fatal, 60)).shuffle().shuffle(buffer=4).batch(3),
    "a source of many": lambda: mpqueue.Dataset(AtOnce(fatal, 60)).shuffle(buffer=4).batch(3),
    "elements": lambda: mpqueue.Dataset.zip(numbers.map(fatal).filter(bool), numbers).map(lambda pair: pair[0]),
}


def loader(dataset, **options):
    return mpqueue.Loader(dataset, **{"workers": 2, "seed": 3, "lanes": LANES, "start_method": "fork"} | options)


def outcomes(stream, limit=1 << 30):
    """Return the batches as lists, with None for each error, and the errors."""
    found, errors = [], []
    iterator = iter(stream)
    while len(found) < limit:
        try:
            found.append(np.asarray(next(iterator)).tolist())
        except StopIteration:
            break
        except (Broken, WorkerDied, BatchTimeout) as error:
            errors.append(error)
            found.append(None)
    return found, errors


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.setenv("KILLS", "kills")


def with_errors(dataset, **options):
    """Return the batches of the same stream with samples that raise instead of killing, with None for each error."""
    with pytest.MonkeyPatch.context() as patch, loader(dataset, workers=0, **options) as stream:
        patch.delenv("KILLS", raising=False)
        return outcomes(stream)[0]


@pytest.mark.usefixtures("kills")
@pytest.mark.sample(2)
@pytest.mark.parametrize("name", PIPELINES)
def test_sample_that_kills_workers_is_replaced_by_an_error(name):
    dataset = PIPELINES[name]()
    expected = with_errors(dataset)
    assert expected.count(None) == 2
    with loader(dataset, restarts=1) as stream:
        found, errors = outcomes(stream)
        deaths = stream.statistics().deaths
        # If the sample was read ahead, a search without read-ahead follows, which crashes one more process.
        assert 2 * len(errors) <= deaths <= 4 * len(errors)
    assert found == expected
    for error in errors:
        notes = " ".join(error.__notes__)
        assert type(error) is WorkerDied
        assert error.exitcode == -signal.SIGKILL
        assert f"of {LANES}" in notes
        assert "stage" in notes


@pytest.mark.usefixtures("kills")
def test_fatal_sample_is_found_with_restarts_0():
    dataset = PIPELINES["map"]()
    expected = with_errors(dataset)
    with loader(dataset, restarts=0) as stream:
        assert outcomes(stream)[0] == expected


@pytest.mark.sample(1)
@pytest.mark.usefixtures("kills")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_state_contains_lost_samples(workers):
    """A process that resumes from the state gets an undelivered error again, and never crashes."""
    dataset = PIPELINES["after a buffer"]()
    expected = with_errors(dataset)
    position = expected.index(None)
    with loader(dataset, restarts=1) as stream:
        iterator = iter(stream)
        for _ in range(position):
            next(iterator)
        with pytest.raises(WorkerDied):
            next(iterator)
        state = json.loads(json.dumps(stream.state_dict()))
    assert any("lost" in start[1] for start in restored(state["starts"]) if start)
    with loader(dataset, workers=workers) as stream:
        stream.load_state_dict(state)
        left = expected[position + 1 :]
        if not workers:  # without workers, the sample would end this process
            left = left[: left.index(None)]
        assert outcomes(stream, len(left))[0] == left


@pytest.mark.usefixtures("kills")
def test_skipping_errors_does_not_skip_a_sample_that_kills():
    dataset = numbers.filter(lambda number: 1 // (number % 10) >= 0).map(fatal).shuffle(buffer=4).batch(4)
    with loader(dataset, restarts=1, on_error="skip") as stream:
        found, errors = outcomes(stream)
    assert len(errors) == 2
    taken = list(itertools.chain(*filter(None, found)))
    assert sorted(taken) == [number for number in range(60) if number % 10 and number not in FATAL]


def test_only_the_hanging_sample_is_lost(tmp_path, monkeypatch):
    hanging = DeclaredHangs(tmp_path / "hanging")
    judge_by(hanging, monkeypatch)
    dataset = mpqueue.Dataset.range(12).map(fatal).shuffle(buffer=2).batch(2)
    expected = with_errors(dataset)
    monkeypatch.setenv(HANGING, hanging.folder)
    with loader(dataset, restarts=0, batch_timeout=TIMEOUT_S) as stream:
        found, errors = outcomes(stream)
    assert found == expected
    assert [type(error) for error in errors] == [BatchTimeout]


@pytest.mark.usefixtures("kills")
def test_endless_stream_loses_the_sample_once_per_epoch():
    dataset = mpqueue.Dataset.range(16).map(fatal).filter(lambda _: True)
    with loader(dataset, restarts=1, epoch_batches=30) as stream:
        found, errors = outcomes(stream, 30)
    assert found[:16] == [None if number in FATAL else number for number in range(16)]
    assert len(errors) == found.count(None) == 2


@pytest.mark.usefixtures("kills")
def test_generator_that_kills_loses_the_rest_of_its_lane():
    """Later elements are computed through the generator, so the rest of its lane is lost."""

    def share():
        info = mpqueue.worker_info()
        yield from map(fatal, range(info.shard_id, 60, info.num_shards))

    with loader(mpqueue.Dataset(share).map(lambda number: number), restarts=1) as stream:
        found, errors = outcomes(stream)
    assert all("the rest of lane" in error.__notes__[0] for error in errors[1::2])
    assert sorted(number for number in found if number is not None) == sorted(
        number for number in range(60) if all(number % LANES != death % LANES or number < death for death in FATAL)
    )


# -- Samples that are excluded or raise, below the stage that makes elements of several samples


def same(value):
    return value


def as_list(batch):
    return batch.tolist()


def samples_of(value):
    """Return the numbers in an element, in order."""
    if isinstance(value, dict):  # a row of `pack`
        return value["tokens"][value["segment_ids"] > 0].tolist()
    if isinstance(value, list | tuple):
        return [number for each in value for number in samples_of(each)]
    found = value.tolist() if hasattr(value, "tolist") else value
    return found if isinstance(found, list) else [found]


def broken(index):
    if index in {4, 9}:
        raise OSError(f"sample {index} is broken")
    return index


BROKEN = Dataset(Computed(broken, 24)).batch(3).map(same)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_counted_logged_and_named_once(workers, caplog):
    for batched in (BROKEN, BROKEN.map(as_list).batch(2, collate=list)):
        caplog.clear()
        with mpqueue.Loader(batched, workers=workers, on_error="skip") as loader:
            named = []
            for batch in loader:
                assert loader.last.samples == tuple(samples_of(batch))
                named += loader.last.skipped
            assert named == [4, 9]
            assert loader.statistics().skipped == 2
        again = "the error of this line again (2 times so far)"
        logged = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
        assert [text.splitlines()[0] for text in logged] == [
            "skipped sample 4 of epoch 0 because the source raised:",
            f"skipped sample 9 of epoch 0 because the source raised {again}: OSError: sample 9 is broken",
        ]
        with mpqueue.Loader(batched, workers=workers, on_error="skip", max_errors=1) as loader:
            with pytest.raises(TooManyErrors, match="max_errors=1"):
                list(loader)


def test_sample_of_an_earlier_pass_that_raised_is_in_no_batch():
    """Its element is held while later passes over the source begin."""
    streamed = Dataset.range(4).filter(lambda _: True).batch(1)
    source = Dataset.mix([BROKEN, streamed], stop="never").batch(60, collate=list)
    with mpqueue.Loader(source, lanes=1, seed=1, workers=0, on_error="skip", epoch_batches=2) as loader:
        for batch in loader:
            assert [number for _, number in loader.last.samples] == samples_of(batch)
