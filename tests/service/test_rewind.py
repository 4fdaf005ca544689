"""Samples that a server excludes, weights that it changes, and the samples in a consumer's batches."""

import asyncio
import os
import random
import zlib
from functools import partial

import numpy as np
import pytest
from helpers.in_threads import in_threads
from helpers.server_directories import servers_directory  # noqa: F401
from helpers.waits import until

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import ServiceDied, ServiceError, ServiceStateError
from mpqueue.plan.cursors import Place
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.service import explaining
from mpqueue.service.checkpoints import Checkpoints
from mpqueue.service.journal import _JournalKind, _pack
from mpqueue.service.modes import mode_of
from mpqueue.service.records import ToServer, pack_request
from mpqueue.worker import lane_runner

pytestmark = pytest.mark.usefixtures("servers_directory")

SAMPLES = list(range(48))
MIXTURE = {"web": Dataset.range(1000), "code": Dataset.range(1000, 2000)}


def served(source=SAMPLES, **options):
    return mpqueue.Server("s", source, **{"batch_size": 4, "workers": 1, "mode": "broadcast", "seed": 3} | options)


def attached(**options):
    return mpqueue.attach("s", timeout=60, **options)


def loaded(exclude=(), after=0, *, first=(), **options):
    """Return the batches of a loader that excludes samples after some batches."""
    with mpqueue.Loader(SAMPLES, **{"batch_size": 4, "workers": 0, "seed": 3, "exclude": first} | options) as loader:
        found = []
        for batch in loader:
            found.append(batch.tolist())
            if len(found) == after:
                loader.exclude(exclude)
        return found


def rows(batches):
    return [batch.tolist() for batch in batches]


class TestExclude:
    @pytest.mark.parametrize(
        ("mode", "shuffle", "ordered"), [("broadcast", True, True), ("split", False, True), ("split", True, False)]
    )
    def test_next_batch_lacks_the_samples_although_it_was_sent_ahead(self, mode, shuffle, ordered):
        excluded = [5, 14, 20, 21, 22, 23, 47]
        expected = loaded(excluded, 3, shuffle=shuffle)
        with served(mode=mode, shuffle=shuffle, ordered=ordered) as server, attached() as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist() for _ in range(3)]
            server.exclude(excluded)
            found += rows(batches)
            assert found == expected
            again = rows(consumer)
            assert {sample for batch in again for sample in batch} == set(SAMPLES) - set(excluded)

    def test_slow_rank_gets_the_batches_before_those_of_the_fast_one_as_they_were(self):
        with served(mode="split", world=2) as server, attached(rank=0) as fast, attached(rank=1) as slow:
            of_fast, of_slow = iter(fast), iter(slow)
            found = [next(of_fast).tolist() for _ in range(3)], [next(of_slow).tolist()]
            server.exclude(range(12, 30))  # batches 0, 2 and 4 of all were returned to one rank, and batch 1
            for mine, others in zip(found, in_threads(lambda: rows(of_fast), lambda: rows(of_slow)), strict=True):
                mine += others
        whole = [SAMPLES[at : at + 4] for at in range(0, 48, 4)]
        left = [*whole[:5], whole[1], whole[0], [30, 31], *whole[8:]]  # two empty batches are filled
        assert found == (left[::2], left[1::2])

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, ([0, 2, 4, 6, 0, 10], [1, 3, 1, 7, 9, 11])),
            ({"drop_last": True}, ([0, 2, 4, 6, 10], [1, 3, 1, 7, 11])),
            # Its number of batches is unknown: a change begins with a round of which no rank got a batch.
            ({"sampler": SAMPLES}, ([0, 2, 4, 6, 0, 10], [1, 3, 5, 7, 9, 11])),
            ({"ordered": False}, ([0, 2, 4, 6, 0, 10], [1, 3, 1, 7, 9, 11])),
        ],
        ids=["filled", "dropped", "sampler", "unordered"],
    )
    def test_ranks_get_equally_many_batches_if_one_is_empty(self, options, expected):
        """The exclusion begins in the middle of the third round, whose first batch was taken: it is not left out."""
        with (
            served(mode="split", world=2, **options) as server,
            attached(rank=0) as first,
            attached(rank=1) as second,
        ):
            streams = iter(first), iter(second)
            found = [[next(streams[0]) for _ in range(3)], [next(streams[1]) for _ in range(2)]]
            server.exclude([*range(20, 24), *range(32, 36)])
            for batches, rest in zip(found, in_threads(*(partial(list, stream) for stream in streams)), strict=True):
                batches += rest
            assert second.last.samples == tuple(found[1][-1].tolist())
        assert tuple([int(batch[0]) // 4 for batch in batches] for batches in found) == expected

    def test_bad_input_changes_nothing(self):
        server = served()
        with pytest.raises(ServiceStateError, match="not running"):
            server.exclude([1])
        with server, attached() as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist()]
            for ids, error in (([48], ValueError), ([-1], ValueError), (3, TypeError), ("3", TypeError)):
                with pytest.raises(error):
                    server.exclude(ids)
            server.exclude([])
            assert found + rows(batches) == loaded()
        with pytest.raises(ServiceStateError, match="not running"):
            server.exclude([1])


def script_of(call, interval_s=1):
    """Return the script of a server of this module, which excludes the samples in each line of its input."""
    return (
        f"import sys; sys.path[:0] = [{os.path.dirname(__file__)!r}, sys.argv[1]]\n"
        "import test_rewind as tests\n"
        "from mpqueue.service import checkpoints\n"
        f"checkpoints.BETWEEN_S = {interval_s}\n"
        f"with tests.{call} as server:\n"
        "    print('serves', flush=True)\n"
        "    for line in sys.stdin:\n"
        "        try:\n"
        "            server.exclude(eval(line))\n"
        "            print('excluded', flush=True)\n"
        "        except tests.ServiceStateError as error:\n"
        "            print(error, flush=True)\n"
    )


def exclude(process, ids, answer="excluded"):
    process.stdin.write(f"{ids}\n")
    process.stdin.flush()
    assert answer in process.stdout.readline()


def test_restarted_server_keeps_the_exclusion(tmp_path, start_server_script):
    script = script_of(f"served(journal={str(tmp_path / 'journal')!r})")
    process = start_server_script(script)
    with attached(reconnect=True) as consumer:
        batches = iter(consumer)
        found = [next(batches).tolist() for _ in range(3)]
        exclude(process, [12, 13, 25])
        found.append(next(batches).tolist())
        process.kill()
        process.wait()
        start_server_script(script)
        found += rows(batches)
        assert found == loaded([12, 13, 25], 3)
        assert consumer.last.samples == (44, 45, 46, 47)


class TestSetWeights:
    def dataset(self):
        return Dataset.mix(MIXTURE, weights={"web": 0.5, "code": 0.5}).batch(4)

    @pytest.mark.parametrize("is_stream", [False, True], ids=["index", "stream"])
    @pytest.mark.parametrize("at", [None, 150])
    def test_batches_equal_those_of_a_loader(self, at, is_stream, tmp_path):
        dataset, options = self.dataset(), {"batch_size": None, "on_error": "skip"}
        if is_stream:
            dataset = Dataset.mix(MIXTURE, weights={"web": 0.5, "code": 0.5}).filter(is_no_third).batch(4)
            options["journal"] = str(tmp_path / "journal")
        weights = {"web": 1.0, "code": 0.0}
        # With "skip", virtual shards do not read ahead: how far they would read depends on the time that it takes.
        with mpqueue.Loader(dataset, workers=0, seed=3, on_error="skip") as loader:
            batches = iter(loader)
            expected = [next(batches).tolist() for _ in range(3)]
            changed_at = loader.set_weights(weights, at)
            expected += [next(batches).tolist() for _ in range(40)]
        with served(dataset, **options) as server, attached(reconnect=True) as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist() for _ in range(3)]
            assert server.set_weights(weights, at) == changed_at
            found += [next(batches).tolist() for _ in range(40)]
            assert {name for name, _ in consumer.last.samples} == {"web"}
        assert found == expected

    @pytest.mark.parametrize("options", [{}, {"mode": "split", "world": 2}], ids=str)
    def test_consumers_know_the_new_length(self, options):
        def mixed():
            parts = [Dataset.range(100), Dataset.range(100)]
            return Dataset.mix(parts, weights=[1, 1], stop="first").batch(4)

        rank = {"rank": 0} if options else {}
        with served(mixed(), batch_size=None, **options) as server, attached(**rank) as consumer:
            before = len(consumer)
            assert before == (25 if options else 50)
            server.set_weights([1, 0.2])
            with mpqueue.Loader(mixed(), workers=0, seed=3) as loader:
                loader.set_weights([1, 0.2])
                expected = len(loader) // (2 if options else 1)
            assert len(consumer) == expected != before
            if not options:
                assert len(rows(consumer)) == expected
                assert len(consumer) == expected
        assert len(consumer) == expected, "also after the end of the server"

    def test_restarted_server_recognizes_its_journal_if_the_length_was_changed(self, tmp_path):
        def mixed(length):
            parts = [Dataset.range(length), Dataset.range(8), Dataset.range(3)]
            return Dataset.mix(parts, weights=[1, 0, 1], stop="all").batch(5)

        options = {"batch_size": None, "mode": "split", "world": 1, "journal": tmp_path / "journal"}
        with mpqueue.Loader(mixed(16), workers=0, seed=3) as loader:
            batches = iter(loader)
            expected = [next(batches).tolist() for _ in range(2)]
            loader.set_weights([4, 1, 3], 10)
            expected += rows(batches)
        with served(mixed(16), **options) as server, attached(rank=0) as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist() for _ in range(2)]
            length = len(consumer)
            server.set_weights([4, 1, 3], 10)
            assert len(consumer) != length
        # A source without a mixture, for which these weights mean nothing, is another stream, too.
        for source in (mixed(20), Dataset.range(16).batch(5)):
            with pytest.raises(ServiceError, match="belongs to another stream"):
                served(source, **options).start()
        with served(mixed(16), **options), attached(rank=0) as consumer:
            assert found[:1] + rows(consumer) == expected

    def test_bad_input_changes_nothing(self):
        with mpqueue.Loader(self.dataset(), workers=0, seed=3) as loader:
            expected = [batch.tolist() for batch, _ in zip(loader, range(20), strict=False)]
        with served(self.dataset(), batch_size=None) as server, attached() as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist() for _ in range(3)]
            good = {"web": 1, "code": 1}
            for weights, at, error in (
                ({"web": 1}, None, ValueError), (good, 11, ValueError), (good, -1, ValueError), (good, 1.5, TypeError),
            ):  # fmt: skip
                with pytest.raises(error):
                    server.set_weights(weights, at)
            found += [next(batches).tolist() for _ in range(17)]
            assert found == expected


class Generated:
    """The share of a lane of 60 numbers."""

    def __call__(self):
        info = mpqueue.worker_info()
        yield from range(info.shard_id, 60, info.num_shards)


def is_no_third(number):
    """Return whether a number is not a multiple of 3."""
    return number % 3 > 0


def twice(number):
    """Return a number two times."""
    return [number, number]


STREAMS = {
    "a buffer": (lambda: Dataset.range(90).shuffle(buffer=20).batch(4), {}),
    "a filter": (lambda: Dataset.range(90).filter(is_no_third).shuffle(buffer=9).batch(4), {}),
    "items": (lambda: Dataset.range(50).flat_map(twice).batch(3), {}),
    "an endless stream": (lambda: Dataset.range(60).shuffle(buffer=7).batch(4), {"epoch_batches": 12}),
    "a generator": (lambda: Dataset(Generated()).batch(3), {}),
    "a mix": (lambda: Dataset.mix({"a": Dataset.range(50), "b": Dataset.range(50)}).shuffle(buffer=5).batch(4), {}),
}
LANES = {"lanes": 4, "batch_size": None}


def ids_of(name, *numbers):
    """Return samples by the ids of a stream."""
    if name == "a generator":
        return [(number % 4, number // 4) for number in numbers]
    return {"a": list(numbers), "b": list(numbers)} if name == "a mix" else list(numbers)


EXCLUDED = (*range(4, 12), 22, 23, 40, 41)
LATER = 30, 31


def stream_of(name, **options):
    make, needed = STREAMS[name]
    return served(make(), **LANES | needed | options)


def everything(name, **options):
    """Return the batches and their samples of two epochs of a loader."""
    make, needed = STREAMS[name]
    with mpqueue.Loader(make(), workers=0, seed=3, lanes=4, **needed | options) as loader:
        return [[(batch.tolist(), loader.last.samples) for batch in loader] for _ in range(2)]


def with_samples(consumer, batches):
    """Yield the batches of a consumer with their samples."""
    for batch in batches:
        yield batch.tolist(), consumer.last.samples


def check(name, found, *changes, ordered=True):
    """Check the batches of an epoch: before and after changes, each with the number of batches before it.

    Where a stream has buffers, the order after a change depends on how far its virtual shards have read.
    """
    whole, excluded, num_before = everything(name)[0], SampleSet(), 0
    for after, ids in (*changes, (len(found), [])):
        assert not any(sample in excluded for _, samples in found[num_before:after] for sample in samples)
        num_before, excluded = after, excluded | SampleSet.of(ids)
    if ordered:
        assert found[: changes[0][0]] == whole[: changes[0][0]]
    if name == "an endless stream":
        return  # it repeats, and another number of its samples fits into an epoch
    got, every = ([sample for _, samples in each for sample in samples] for each in (found, whole))
    left = {sample for sample in every if sample not in excluded}
    assert left <= set(got)
    number = 2 if name == "items" else 1  # of the elements of a sample; a change may remove one of them
    assert all(got.count(sample) <= number for sample in got)
    assert all(got.count(sample) == number for sample in left)


def streams(*names):
    return pytest.mark.parametrize("name", names)


class TestStream:
    @pytest.mark.parametrize(
        ("name", "mode"), [*((name, "broadcast") for name in STREAMS), ("a filter", "split"), ("items", "split")]
    )
    def test_next_batch_lacks_the_samples_although_it_was_sent_ahead(self, name, mode):
        excluded, later = ids_of(name, *EXCLUDED), ids_of(name, *LATER)
        with stream_of(name, mode=mode, workers=2) as server, attached() as consumer:
            found = []
            for each in with_samples(consumer, consumer):
                found.append(each)
                if len(found) in {3, 6}:
                    server.exclude(excluded if len(found) == 3 else later)
                    server.exclude(excluded)  # repeating changes nothing
            check(name, found, (3, excluded), (6, later))
            if name in {"items", "a generator"}:  # without a buffer, the whole order is known
                make, needed = STREAMS[name]
                with mpqueue.Loader(make(), workers=0, seed=3, lanes=4, **needed) as loader:
                    expected = []
                    for batch in loader:
                        expected.append((batch.tolist(), loader.last.samples))
                        if len(expected) in {3, 6}:
                            loader.exclude(excluded if len(expected) == 3 else later)
                assert found == expected
            if name != "an endless stream":  # it continues
                assert (
                    list(with_samples(consumer, consumer))
                    == everything(name, exclude=ids_of(name, *EXCLUDED, *LATER))[1]
                )

    @streams("a buffer", "an endless stream", "a generator")
    def test_late_consumers_get_the_same_batches(self, name):
        with stream_of(name) as server, attached() as first:
            batches = iter(first)
            found = [next(batches).tolist() for _ in range(4)]
            server.exclude(ids_of(name, *EXCLUDED))
            found += [next(batches).tolist() for _ in range(2)]
            server.exclude(ids_of(name, *LATER))
            with attached(join="replay") as late:
                of_late = iter(late)
                taken = [next(of_late).tolist() for _ in range(3)]
                server.exclude(ids_of(name, 37))
                rest, rest_of_late = in_threads(lambda: rows(batches), lambda: rows(of_late))
        assert taken + rest_of_late == found + rest

    @streams("a filter", "a buffer", "an endless stream")
    def test_samples_of_the_last_batch_are_known_in_the_next_epoch(self, name):
        with stream_of(name) as server, attached() as consumer:
            batches = iter(consumer)
            for _ in range(3):
                next(batches)
            server.exclude(ids_of(name, *EXCLUDED))
            assert len(list(batches)) > 3
            samples = consumer.last.samples
            batches = iter(consumer)  # the server opens the next epoch
            assert consumer.last.samples == samples
            next(batches)
            assert consumer.last.epoch == 1

    @streams("a filter", "items")
    def test_unordered_batches_have_each_other_sample_once(self, name):
        excluded = ids_of(name, *EXCLUDED)
        with stream_of(name, ordered=False, workers=2) as server, attached() as consumer:
            batches = with_samples(consumer, consumer)
            found = [next(batches) for _ in range(3)]
            server.exclude(excluded)
            found += batches
        check(name, found, (3, excluded), ordered=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "interval_s"), [("a filter", 1), ("items", 0), ("an endless stream", 0)])
def test_killed_server_of_a_stream_continues(name, interval_s, tmp_path, start_server_script):
    script = script_of(f"stream_of({name!r}, journal={str(tmp_path / 'journal')!r})", interval_s)
    process = start_server_script(script)
    excluded, later, last = (ids_of(name, *numbers) for numbers in (EXCLUDED, LATER, (37,)))
    with attached(reconnect=True) as consumer:
        batches = with_samples(consumer, consumer)
        found = [next(batches) for _ in range(3)]
        for ids, count in ((excluded, 1), (later, 3), (last, 2)):
            exclude(process, ids)
            process.kill()
            process.wait()
            process = start_server_script(script)
            if ids is not last:
                # Only the consumer knows its latest batch: a change could begin before it, and move others to its place.
                exclude(process, last, f"those of process {os.getpid()} have requested a batch")
            found += [next(batches) for _ in range(count)]
        with attached(join="replay") as late:
            rest, of_late = in_threads(lambda: list(batches), lambda: rows(late))
        found += rest
    assert [batch for batch, _ in found] == of_late
    check(name, found, (3, excluded), (4, later), (7, last))


def test_endless_stream_refuses_changes_after_a_restart_at_the_end_of_its_epoch(tmp_path):
    stream = Dataset.mix(MIXTURE, weights={"web": 1, "code": 1}).filter(is_no_third).batch(4)
    path = tmp_path / "journal"
    options = LANES | {"mode": "split", "epoch_batches": 6, "journal": path}
    with served(stream, **options):
        pass
    # As if the server was killed after it had recorded the last batch of the epoch, and before the next epoch.
    check = zlib.crc32(path.read_bytes())  # of the header, because no record follows it yet
    with open(path, "ab") as file:
        for position in range(6):
            record, check = _pack(check, _JournalKind.TAKEN, position, 0, 1)
            file.write(record)
    with served(stream, **options) as server:
        with pytest.raises(ServiceStateError, match=r"has just been restarted.*begun the next epoch"):
            server.exclude({"web": [500], "code": []})
        with attached() as consumer:
            assert list(consumer) == []
            batches = iter(consumer)
            next(batches)
            server.exclude({"web": [500], "code": []})
            assert len(list(batches)) == 5


class Journal:
    """A journal that records the places of its checkpoints."""

    present = (1,)

    def __init__(self):
        self.places = []

    def begin(self, epoch, state, pairs, place, begun):
        self.places.append(place.position)


class StreamAhead:
    """A stream that has always yielded two batches more than its consumer has taken."""

    begun = None

    def __init__(self):
        self.count = 2

    def lane_place(self):
        return Place(0, self.count)


def test_place_after_a_change_becomes_no_checkpoint(monkeypatch):
    monkeypatch.setattr("mpqueue.service.checkpoints.BETWEEN_S", 0)
    journal, stream = Journal(), StreamAhead()
    checkpoints = Checkpoints(journal, stream, mode_of("split", None))
    for position in range(6):
        if position == 3:
            checkpoints.change(3)  # the places 3 and later were those of a stream that does not continue
            stream.count = 3
        stream.count += 1
        checkpoints.note_taken(position, 1)
    assert journal.places == [3, 4, 5]


@pytest.mark.parametrize("options", [{}, {"lanes": 4}, {"lanes": 4, "batch_size": 7}, {"batch_size": 7}], ids=str)
def test_generator_function_has_known_samples_and_excludes_none(options):
    with served(Generated(), **{"batch_size": None, "workers": 2} | options) as server, attached() as consumer:
        with mpqueue.Loader(Generated(), workers=2, seed=3, **options) as loader:
            for batch, expected in zip(consumer, loader, strict=True):
                assert np.array_equal(batch, expected)
                assert consumer.last.samples == loader.last.samples
                with pytest.raises(ValueError, match="not a Dataset"):
                    server.exclude([(0, 9)])
                with pytest.raises(ValueError, match="no mixture"):
                    server.set_weights({"a": 1})


class Cancelling:
    """A function that raises a `BaseException` in the process of the server."""

    def __init__(self):
        self.pid = os.getpid()

    def __call__(self, number):
        if os.getpid() == self.pid:
            raise asyncio.CancelledError
        return number


@pytest.mark.timeout(60)
def test_base_exception_of_the_stream_is_answered_and_the_server_continues(monkeypatch):
    # Without snapshots of the worker, an exclusion runs the stream here. On a busy machine each batch would have one.
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 1 << 62)
    stream = Dataset.range(40).map(Cancelling()).filter(is_no_third).batch(4)
    with served(stream, batch_size=None, start_method="fork") as server, attached() as consumer:
        batches = iter(consumer)
        found = list(next(batches))
        for _ in range(2):  # the thread that answers must survive the first question
            with pytest.raises(LookupError, match=r"run again: asyncio\.exceptions\.CancelledError"):
                _ = consumer.last
        with pytest.raises(asyncio.CancelledError):  # the worker has returned these samples
            server.exclude([7])
        assert sorted([*found, *(number for batch in batches for number in batch)]) == list(
            filter(is_no_third, range(40))
        )


class Unrepeatable:
    """A sampler whose random numbers come from outside the process."""

    def __iter__(self):
        numbers = random.SystemRandom()
        return (numbers.randrange(48) for _ in range(24))

    def __len__(self):
        return 24


class Once:
    """A sampler that can be iterated once."""

    def __init__(self):
        self.num_passes = 0

    def __iter__(self):
        self.num_passes += 1
        if self.num_passes > 1:
            raise RuntimeError("no second pass")
        return iter(range(8))

    def __len__(self):
        return 8


def test_sampler_that_raises_when_samples_are_asked_for_does_not_end_the_server(monkeypatch):
    monkeypatch.setattr("mpqueue.service.stream.MAX_KEPT", 0)
    with served(sampler=Once()) as server, attached() as consumer:
        batches = iter(consumer)
        assert next(batches).tolist() == [0, 1, 2, 3]
        cursor = server._loop._stream._pipeline.ledger.cursor
        until(lambda: 0 not in cursor._kept, "the delivered indices are kept")
        with pytest.raises(LookupError, match="run again: RuntimeError: no second pass"):
            _ = consumer.last
        assert next(batches).tolist() == [4, 5, 6, 7]


def test_exclusion_without_the_journal_is_an_error_and_changes_nothing(tmp_path):
    journal = tmp_path / "journal"
    with served(journal=journal) as server, attached() as consumer:
        batches = iter(consumer)
        next(batches)
        os.unlink(journal)
        with pytest.raises(FileNotFoundError, match="the journal was removed"):
            server.exclude([5])
        assert rows([*batches]) == rows(np.arange(4, 48).reshape(-1, 4))


def test_error_of_a_stream_that_is_run_again_is_raised_where_the_samples_are_read():
    source = Dataset(RaisesOutside(os.getpid())).batch(4)
    with served(source, batch_size=None, lanes=1), attached() as consumer:
        for number, batch in enumerate(consumer):
            assert batch.tolist() == list(range(4 * number, 4 * number + 4))
            with pytest.raises(LookupError, match="has ended before this batch" if number else "only in a worker"):
                consumer.last


class RaisesOutside:
    """A generator function that raises in one process."""

    def __init__(self, pid):
        self._pid = pid

    def __call__(self):
        if os.getpid() == self._pid:
            raise ArithmeticError("only in a worker")
        yield from range(12)


class TestLast:
    def test_samples_of_each_batch(self):
        with served(shuffle=True) as _, attached() as consumer:
            assert consumer.last is None
            infos = []
            for epoch in range(2):
                for number, batch in enumerate(consumer):
                    info = consumer.last
                    assert info.samples == tuple(batch.tolist())
                    assert (info.epoch, info.batch, info.step) == (epoch, number, 12 * epoch + number)
                    assert (info.rank, info.world_size, info.seed, info.skipped) == (0, 1, 3, ())
                    infos.append(info)
            assert consumer.last == infos[-1], "also after the end of the loop"
            assert len(set(infos[:12])) == 12

    def test_skipped_samples(self):
        class Broken:
            def __len__(self):
                return 12

            def __getitem__(self, index):
                if index in {1, 6}:
                    raise ValueError(index)
                return index

        with served(Broken(), on_error="skip"), attached() as consumer:
            found = [(batch.tolist(), consumer.last.samples, consumer.last.skipped) for batch in consumer]
        assert found == [
            ([0, 2, 3], (0, 2, 3), (1,)), ([4, 5, 7], (4, 5, 7), (6,)), ([8, 9, 10, 11], (8, 9, 10, 11), ()),
        ]  # fmt: skip

    def test_keys_of_a_batch_sampler(self):
        source = {"a": 1, ("b", 2): 2, 3: 3}
        with served(source, batch_size=None, batch_sampler=[["a", 3], [("b", 2), 3]]), attached() as consumer:
            assert [(batch.tolist(), consumer.last.samples) for batch in consumer] == [
                ([1, 3], ("a", 3)), ([2, 3], (("b", 2), 3)),
            ]  # fmt: skip

    def test_samples_of_a_sampler_that_returns_other_indices_each_time(self):
        with served(sampler=Unrepeatable()), attached() as consumer:
            for batch in consumer:
                assert consumer.last.samples == tuple(batch.tolist())

    def test_samples_of_a_source_that_grows_within_an_epoch(self):
        source = list(range(12))
        with served(source, batch_size=None, shuffle=True), attached() as consumer:
            for number, batch in enumerate(consumer):
                if number == 2:
                    source.append(12)
                assert consumer.last.samples == (batch,)
            assert number == 11

    def test_answer_that_nobody_waits_for_is_dropped(self):
        with served() as _, attached() as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist()]
            # As if a signal handler had raised in `last` after the question was sent.
            consumer._attachment.link.send(pack_request(ToServer.EXPLAIN, 0, (3, 99)), [])
            found.append(next(batches).tolist())
            assert consumer.last.samples == (4, 5, 6, 7)
            assert found + rows(batches) == loaded()

    def test_many_samples_in_a_batch(self):
        source = np.arange(40_000)
        with served(source, batch_size=20_000), attached() as consumer:
            for batch in consumer:
                assert consumer.last.samples == tuple(batch.tolist())

    def test_after_the_end_of_the_server_and_of_the_consumer(self):
        with served():
            consumer = attached()
            next(iter(consumer))
        with pytest.raises(ServiceDied):
            consumer.last
        consumer.close()
        with pytest.raises(RuntimeError, match="closed"):
            consumer.last


def test_question_about_samples_without_a_free_thread_names_the_server(monkeypatch):
    def start(_):
        raise OSError("can't start new thread")

    stream = Dataset.range(40).filter(lambda number: number % 2 == 1).batch(4)
    with (
        mpqueue.Server("without-threads", stream, mode="broadcast", workers=1, seed=1),
        mpqueue.attach("without-threads", timeout=60) as consumer,
    ):
        next(iter(consumer))
        with (
            monkeypatch.context() as full,
            pytest.raises(LookupError, match="the server cannot find the samples of a batch now"),
        ):
            full.setattr(explaining.JoinedThread, "start", start)
            assert consumer.last.samples
        assert consumer.last.samples == (1, 17, 33)  # of the first of 16 virtual shards
