"""Samples that a server leaves out from its start, also after a restart with a journal."""

import itertools
import os
from functools import partial

import pytest
from helpers.concurrent_calls import in_threads
from helpers.server_directories import servers_directory  # noqa: F401
from helpers.server_processes import crash

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import ServiceError
from mpqueue.service.serving import checkpoints

pytestmark = pytest.mark.usefixtures("servers_directory")

SAMPLES = list(range(48))
EXCLUDED = [5, 14, 20, 21, 22, 23, 47]
RANKS = {"mode": "split", "world": 2}


def is_no_third(number):
    """Return whether a number is not a multiple of 3."""
    return number % 3 > 0


def numbers():
    return Dataset.range(90).filter(is_no_third).shuffle(buffer=9).batch(4)


def served(source=SAMPLES, **options):
    return mpqueue.Server("s", source, **{"batch_size": 4, "workers": 1, "mode": "broadcast", "seed": 3} | options)


def stream_of(**options):
    return served(numbers(), **{"batch_size": None, "lanes": 4} | options)


def attached(**options):
    return mpqueue.attach("s", timeout=60, **options)


def loaded(source=SAMPLES, num_epochs=1, **options):
    """Return the batches of each epoch of a loader."""
    with mpqueue.Loader(source, **{"batch_size": 4, "workers": 0, "seed": 3} | options) as loader:
        return [[batch.tolist() for batch in loader] for _ in range(num_epochs)]


def rows(batches):
    return [batch.tolist() for batch in batches]


def some(batches, count):
    return [next(batches).tolist() for _ in range(count)]


@pytest.mark.parametrize(
    ("make", "ids", "error", "text"),
    [
        (served, [48], ValueError, "48"),
        (served, [-1], ValueError, "-1"),
        (served, 3, TypeError, "exclude must be an iterable of sample ids"),
        (served, iter([3]), TypeError, "exclude must be a collection.* got an iterator"),
        (lambda **options: served(lambda: iter([1]), **options), [0], ValueError, "not a Dataset"),
    ],
)
def test_invalid_samples_are_refused_by_the_constructor(make, ids, error, text):
    with pytest.raises(error, match=text):
        make(exclude=ids)


@pytest.mark.parametrize("name", ["exclude", "set_weights", "last", "explain"])
def test_attributes_of_a_loader_name_what_to_do_with_a_server(name):
    remedy = r"exclude=ids" if name == "exclude" else "Loader"
    with served() as server, attached() as consumer:
        with pytest.raises(AttributeError, match=f"'Server' object has no attribute '{name}': .*{remedy}"):
            getattr(server, name)
        with pytest.raises(AttributeError, match=f"'Consumer' object has no attribute '{name}': .*"):
            getattr(consumer, name)
        with pytest.raises(AttributeError, match=r"no attribute 'epochs'$"):
            _ = consumer.epochs


def test_late_consumer_chooses_the_next_batch_or_epoch():
    with served(), pytest.raises(ValueError, match="a server computes each batch once"):
        attached(join="replay")


# -- Restarts


LANES = {"batch_size": None, "lanes": 4}


@pytest.mark.parametrize("is_stream", [False, True], ids=["index", "stream"])
def test_restarted_server_must_leave_out_the_samples_of_its_journal(tmp_path, is_stream):
    start, journal = stream_of if is_stream else served, tmp_path / "journal"
    with start(exclude=EXCLUDED, mode="split", journal=journal), attached() as consumer:
        some(iter(consumer), 3)
    for fewer in (None, [], EXCLUDED[1:]):
        with pytest.raises(ServiceError, match=r"exclude must have all samples that the journal .* leaves out.*: pass"):
            start(exclude=fewer, mode="split", journal=journal).start()


def excluded_later(after, shard=(0, 1)):
    """Return the batches of a loader that excludes some samples, and others after some batches."""
    with mpqueue.Loader(SAMPLES, batch_size=4, workers=0, seed=3, exclude=EXCLUDED, shard=shard) as loader:
        found = []
        for batch in loader:
            found.append(batch.tolist())
            if len(found) == after:
                loader.exclude(MORE)
        return found


MORE = [*range(24, 32), *range(36, 44, 2)]


def test_restarted_server_leaves_out_more_samples_from_the_first_batch_that_nobody_has(tmp_path):
    journal = tmp_path / "journal"
    with served(exclude=EXCLUDED, mode="split", journal=journal), attached() as consumer:
        found = some(iter(consumer), 4)  # the journal has three of them
    for _ in range(2):  # the second time with the same samples, before another batch is taken
        with served(exclude=[*MORE, *EXCLUDED], mode="split", journal=journal), attached() as consumer:
            assert len(some(iter(consumer), 1)) == 1
    with served(exclude=[*MORE, *EXCLUDED], mode="split", journal=journal), attached() as consumer:
        assert found[:3] + rows(consumer) == excluded_later(4)
        assert rows(consumer) == loaded(exclude=[*MORE, *EXCLUDED])[0]


@pytest.mark.parametrize("counts", [(3, 3), (3, 2), (2, 1)])
def test_ranks_of_a_restarted_server_that_leaves_out_more_samples_stay_equal(tmp_path, counts):
    options = RANKS | {"journal": tmp_path / "journal"}
    with served(exclude=EXCLUDED, **options), attached(rank=0) as first, attached(rank=1) as second:
        loops, found = (iter(first), iter(second)), ([], [])
        for number, rank in itertools.product(range(3), range(2)):  # in turn: each is offered one batch at a time
            found[rank].extend(some(loops[rank], number < counts[rank]))
    with served(exclude=[*EXCLUDED, *MORE], **options), attached(rank=0) as first, attached(rank=1) as second:
        rest = in_threads(lambda: rows(first), lambda: rows(second))
    latest = max(counts) - 1  # of one rank, in the journal; one more may be in use
    expected = [excluded_later(latest + 1, (rank, 2)) for rank in range(2)]
    assert [own[:-1] + others for own, others in zip(found, rest, strict=True)] == expected


def test_restarted_stream_leaves_out_more_samples_from_the_next_epoch_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BETWEEN_S", 0)
    options = {"mode": "split", "journal": tmp_path / "journal"}
    before = loaded(numbers(), 1, exclude=EXCLUDED, **LANES)[0]
    after = loaded(numbers(), 3, exclude=[*EXCLUDED, *MORE], **LANES)
    with stream_of(exclude=EXCLUDED, **options), attached() as consumer:
        found = some(iter(consumer), 4)
    for count in (3, 1):  # also if the second server is restarted in the same epoch
        with stream_of(exclude=[*EXCLUDED, *MORE], **options), attached() as consumer:
            found[-1:] = some(iter(consumer), count)
    with stream_of(exclude=[*EXCLUDED, *MORE], **options), attached() as consumer:
        assert found[:-1] + rows(consumer) == before
        assert [rows(consumer) for _ in range(2)] == after[1:]


def test_restarted_endless_stream_refuses_more_samples(tmp_path):
    options = {"mode": "split", "journal": tmp_path / "journal", "epoch_batches": 9}
    with stream_of(exclude=EXCLUDED, **options), attached() as consumer:
        some(iter(consumer), 4)
    with pytest.raises(ServiceError, match=r"in the middle of an endless stream.*the same exclude="):
        stream_of(exclude=[*EXCLUDED, 30], **options).start()
    with stream_of(exclude=EXCLUDED, **options), attached() as consumer:
        assert len(rows(consumer)) == 6


def killable(start_server_script, journal, **options):
    """Return a function that starts a server with a journal and exclusions in another process."""
    script = (
        f"import sys; sys.path[:0] = [{os.path.dirname(__file__)!r}, sys.argv[1]]\n"
        "import test_exclusions as tests\n"
        f"with tests.served(journal={str(journal)!r}, exclude=eval(sys.argv[2]), **{options!r}):\n"
        "    print('serves', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    return lambda exclude: start_server_script(script, repr(exclude))


def test_consumer_of_a_killed_server_continues_without_the_samples_of_the_next_one(tmp_path, start_server_script):
    start = killable(start_server_script, tmp_path / "journal")
    process = start(EXCLUDED)
    with attached(reconnect=True) as consumer:
        batches = iter(consumer)
        found = some(batches, 4)
        crash(process)
        start([*EXCLUDED, *MORE])
        assert found + rows(batches) == excluded_later(4)


def test_consumers_of_a_killed_server_lose_nothing_if_the_next_one_leaves_out_what_one_has(
    tmp_path, start_server_script
):
    start = killable(start_server_script, tmp_path / "journal", mode="split", batch_size=1)
    process = start([])
    with attached(reconnect=True) as first, attached(reconnect=True) as second, attached(reconnect=True) as third:
        loops = [iter(consumer) for consumer in (first, second, third)]
        found = [number for loop in loops for (number,) in some(loop, 1)]  # they are not in the journal
        crash(process)
        start([1, 7, 40])
        found += itertools.chain.from_iterable(itertools.chain(*in_threads(*(partial(rows, loop) for loop in loops))))
    assert sorted(found) == [number for number in SAMPLES if number not in {7, 40}]
