"""Samples that a server excludes, weights that it changes, and the samples in a consumer's batches."""

import os
import signal
import threading

import numpy as np
import pytest
from helpers.server_directories import servers_directory  # noqa: F401

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import ServiceDied, ServiceStateError
from mpqueue.service.records import ToServer, pack_request

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


def in_threads(*calls):
    """Call functions at the same time, and return their results."""
    found = [None] * len(calls)

    def run(number, call):
        found[number] = call()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def rows(batches):
    return [batch.tolist() for batch in batches]


class TestExclude:
    @pytest.mark.parametrize("mode", ["broadcast", "split"])
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("ordered", [True, False])
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
        left = [*whole[:5], [], [], [30, 31], *whole[8:]]
        assert found[0] == [batch for batch in left[::2] if batch]
        assert found[1] == [batch for batch in left[1::2] if batch]

    def test_late_consumer_gets_the_same_batches(self):
        with served() as server, attached() as first:
            batches = iter(first)
            found = [next(batches).tolist() for _ in range(4)]
            server.exclude([2, 9, 33])
            with attached(join="replay") as late:
                rest, of_late = in_threads(lambda: rows(batches), lambda: rows(late))
        assert found + rest == of_late == loaded([2, 9, 33], 4)

    def test_several_exclusions_hold_from_their_own_batch_on(self):
        with served() as server, attached() as consumer:
            found = []
            for batch in consumer:
                found.append(batch.tolist())
                for _ in range(2):  # repeating changes nothing
                    server.exclude([number for number in (4 * len(found) + 5,) if number < 48])
        assert found[0] == [0, 1, 2, 3]
        assert found[1:] == [[4, 5, 6, 7]] + [[at, at + 2, at + 3] for at in range(8, 48, 4)]

    @pytest.mark.parametrize("num_batches", [0, 12])
    def test_next_epoch_lacks_the_samples(self, num_batches):
        with served() as server, attached() as consumer:
            if num_batches:
                assert len(rows(consumer)) == num_batches
            server.exclude([7])
            assert rows(consumer) == loaded(first=[7])

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

    def test_stream_is_refused(self):
        with served(Dataset.range(9).filter(bool), batch_size=2) as server, attached() as consumer:
            with pytest.raises(ValueError, match="requires a source with an index"):
                server.exclude([1])
            next(iter(consumer))
            with pytest.raises(LookupError, match="a stream"):
                consumer.last


def test_restarted_server_keeps_the_exclusion(tmp_path, start_server_script):
    script = (
        "import sys, mpqueue\n"
        "server = mpqueue.Server('s', list(range(48)), batch_size=4, workers=1, mode='broadcast', seed=3, "
        f"journal={str(tmp_path / 'journal')!r}).start()\n"
        "print('serves', flush=True)\n"
        "for line in sys.stdin:\n"
        "    server.exclude([int(number) for number in line.split()])\n"
        "    print('excluded', flush=True)\n"
    )
    process = start_server_script(script)
    with attached(reconnect=True) as consumer:
        batches = iter(consumer)
        found = [next(batches).tolist() for _ in range(3)]
        process.stdin.write("12 13 25\n")
        process.stdin.flush()
        assert process.stdout.readline() == "excluded\n"
        found.append(next(batches).tolist())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        start_server_script(script)
        found += rows(batches)
        assert found == loaded([12, 13, 25], 3)
        assert consumer.last.samples == (44, 45, 46, 47)


class TestSetWeights:
    def dataset(self):
        return Dataset.mix(MIXTURE, weights={"web": 0.5, "code": 0.5}).batch(4)

    @pytest.mark.parametrize("at", [None, 30])
    def test_batches_equal_those_of_a_loader(self, at):
        weights = {"web": 1.0, "code": 0.0}
        with mpqueue.Loader(self.dataset(), workers=0, seed=3) as loader:
            batches = iter(loader)
            expected = [next(batches).tolist() for _ in range(3)]
            changed_at = loader.set_weights(weights, at)
            expected += [next(batches).tolist() for _ in range(20)]
        with served(self.dataset(), batch_size=None) as server, attached() as consumer:
            batches = iter(consumer)
            found = [next(batches).tolist() for _ in range(3)]
            assert server.set_weights(weights, at) == changed_at == (12 if at is None else 30)
            found += [next(batches).tolist() for _ in range(20)]
            assert found == expected
            assert {name for name, _ in consumer.last.samples} == {"web"}

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

    def test_ranks(self):
        with served(mode="split", world=2), attached(rank=0) as first, attached(rank=1) as second:
            for number, batches in enumerate(zip(first, second, strict=True)):
                for rank, (consumer, batch) in enumerate(zip((first, second), batches, strict=True)):
                    info = consumer.last
                    assert (info.batch, info.step, info.rank, info.world_size) == (number, number, rank, 2)
                    assert info.samples == tuple(batch.tolist())

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
