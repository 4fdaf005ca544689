"""Attaching: arguments, answers and rejections; and reconnecting after a crash of the server."""

import itertools
import os
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.consumer_requests import ConsumerRequest
from helpers.forked_calls import status_of_fork
from helpers.scripted_server import AutoServer, ScriptedServer, attached, batch_of
from helpers.traced_memory import allocates_less_than
from helpers.waits import until

import mpqueue
from mpqueue.errors import ServiceDied, ServiceError
from mpqueue.service.protocol.handshake import Hello, Resume
from mpqueue.service.protocol.records import PICKLED, ToServer
from mpqueue.worker import failures


def numbers(batches):
    return [int(array[0, 0]) for array, _ in batches]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def server(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server:
        yield server


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"rank": "0"}, TypeError, "rank must be an integer"),
            ({"rank": -1}, ValueError, "rank must be 0 or more"),
            ({"timeout": "1"}, TypeError, "timeout must be a number"),
            ({"timeout": float("nan")}, ValueError, "timeout must be"),
            ({"join": "late"}, ValueError, "join must be"),
            ({"writable": True}, ValueError, "writable must be"),
            ({"reconnect": "yes"}, TypeError, "reconnect must be"),
            ({"allow_pickle": []}, TypeError, "allow_pickle must be"),
        ],
    )
    def test_invalid_argument_is_rejected_immediately(self, options, error, text):
        with pytest.raises(error, match=text):
            mpqueue.attach("missing", **options)

    def test_trace_in_missing_folder_is_rejected_immediately(self, tmp_path):
        with pytest.raises(ValueError, match="in an existing folder"):
            mpqueue.attach("missing", trace=tmp_path / "missing/run.json")

    def test_arguments_are_sent_to_server(self, server, pool):
        consumer = pool.submit(mpqueue.attach, server.path, rank=3, join="now", timeout=60)
        hello = server.greet()
        assert (hello.rank, hello.join, hello.resume) == (3, "now", None)
        assert "rank 3" in repr(consumer.result())
        consumer.result().close()


class TestAnswers:
    def test_error_names_server_that_does_not_answer_in_time(self, server):
        with pytest.raises(ServiceError, match="did not answer within the timeout"):
            mpqueue.attach(server.path, timeout=0.1)

    def test_attach_retries_after_the_server_crashed_before_its_answer(self, server, pool):
        consumer = pool.submit(mpqueue.attach, server.path, timeout=60)
        server.greet(answer=b"")
        server.hang_up()
        server.greet()
        consumer.result(60).close()

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"refusal": "rank 3 does not exist"}, "rank 3 does not exist"),
            ({"answer": b"{}"}, "not from a server of this version"),
            ({"answer": b"\xff"}, "not from a server of this version"),
            ({"answer": b'{"protocol": 1'}, "not from a server of this version"),
            ({"answer": b"x" * 9000}, "not from a server of this version"),
            ({"with_ring": False}, "sent no ring of a valid size"),
        ],
        ids=["refusal", "empty", "not UTF-8", "cut", "too long", "without a ring"],
    )
    def test_answer_that_is_no_welcome_raises_its_reason(self, server, pool, answer, reason):
        consumer = pool.submit(mpqueue.attach, server.path, timeout=60)
        server.greet(**answer)
        with pytest.raises(ServiceError, match=reason):
            consumer.result(60)

    def test_ring_smaller_than_announced_is_rejected(self, tmp_path, pool):
        with ScriptedServer(tmp_path / "directory", segment_bytes=1 << 40) as server:
            consumer = pool.submit(mpqueue.attach, server.path, timeout=60)
            server.greet()
            with pytest.raises(OSError, match="expected"):
                consumer.result(60)

    def test_number_of_slots_does_not_determine_memory(self, tmp_path, pool):
        with ScriptedServer(tmp_path / "directory", stride=64) as server:
            consumer = pool.submit(mpqueue.attach, server.path, timeout=60)
            with allocates_less_than(5 << 20):  # there are 400,000 slots
                server.greet()
                consumer.result(60).close()

    def test_wait_without_timeout_is_logged(self, tmp_path, pool, monkeypatch, caplog):
        monkeypatch.setattr("mpqueue.service.protocol.server_directory._PATIENCE_S", 0.02)
        consumer = pool.submit(mpqueue.attach, str(tmp_path / "directory"))
        until(lambda: caplog.records, "nothing is logged")
        text = caplog.records[0].getMessage()
        assert "still waiting, because there is no timeout: found no server 'directory'" in text
        assert "increase timeout" not in text
        assert "within" not in text
        with ScriptedServer(tmp_path / "directory") as server:
            server.greet()
            consumer.result(60).close()


class TestReconnect:
    @pytest.mark.parametrize(
        ("options", "rank", "positions", "count"),
        [({}, None, (4, 6, 9), 7), ({"mode": "split", "world": 3}, 1, (1, 4, 7), 2)],
        ids=["broadcast", "rank"],
    )
    def test_taken_batches_are_reported_to_new_server(self, tmp_path, pool, options, rank, positions, count):
        """A rank counts its own batches."""
        with (
            ScriptedServer(tmp_path / "directory", **options) as server,
            attached(server, reconnect=True, rank=rank) as consumer,
        ):
            for position in positions:
                server.offer(batch_of(position), position=position)
            batches = iter(consumer)
            kept = [next(batches), next(batches)]
            server.restart()
            server.hang_up()
            third = pool.submit(next, batches)
            hello = server.greet()
            assert hello == Hello(rank=rank, resume=Resume(job="job", epoch=0, taken=positions[:2], count=count))
            assert server.hear() == ConsumerRequest(ToServer.BEGIN, 0)
            server.offer(batch_of(positions[2]), position=positions[2])
            assert numbers([third.result(60)]) == [positions[2]]
            assert numbers(kept) == [*positions[:2]]
            assert server.hear() == ConsumerRequest(ToServer.ASK, 0)

    @pytest.mark.parametrize(("position", "taken", "count"), [(1, (0, 1), 2), (-1, (0,), 1)], ids=["batch", "no batch"])
    def test_exception_in_place_of_a_batch_is_reported_to_new_server(self, server, pool, position, taken, count):
        with attached(server, reconnect=True) as consumer:
            server.offer(batch_of(0))
            server.raised(failures.pack(ValueError("bad"), ""), PICKLED, position=position)
            batches = iter(consumer)
            kept = [next(batches)]
            with pytest.raises(ValueError, match="bad"):
                next(batches)
            server.restart()
            server.hang_up()
            rest = pool.submit(next, batches)
            assert server.greet().resume == Resume(job="job", epoch=0, taken=taken, count=count)
            server.offer(batch_of(2), position=2)
            assert numbers([*kept, rest.result(60)]) == [0, 2]

    def test_reconnect_between_loops_resumes_at_next_epoch(self, server, pool):
        with attached(server, reconnect=True) as consumer:
            server.offer(batch_of(0))
            server.end()
            assert len(list(consumer)) == 1
            server.hang_up()
            begun = pool.submit(iter, consumer)
            server.fields["epoch"] = 1
            assert server.greet().resume == Resume(job="job", epoch=1, taken=(), count=0, before=(0,))
            begun.result(60)
            assert server.hear() == ConsumerRequest(ToServer.BEGIN, 1)

    def test_loop_ends_if_other_consumers_took_the_rest(self, server, pool):
        with attached(server, reconnect=True) as consumer:
            server.offer(batch_of(0))
            batches = iter(consumer)
            kept = [next(batches)]
            server.hang_up()
            rest = pool.submit(list, batches)
            server.fields["epoch"] = 1
            server.greet()
            assert rest.result(60) == []
            assert (consumer.epoch, len(kept)) == (1, 1)

    def test_crash_is_raised_if_no_new_server_starts_in_time(self, server, tmp_path):
        with AutoServer(tmp_path / "other", 30, dies_after=3).start() as other:
            consumer = mpqueue.attach(other.path, timeout=0.2, reconnect=True)
            other.has_consumer = lambda: False  # it does not attach to a later server
            with pytest.raises(ServiceDied, match="reconnecting failed: "):
                list(consumer)
            consumer.close()

    def test_close_ends_wait_for_another_server(self, server, pool):
        with attached(server, reconnect=True) as consumer:
            rest = pool.submit(list, consumer)
            assert (server.hear().kind, server.hear().kind) == (ToServer.BEGIN, ToServer.ASK)
            server.stop_listening()
            server.hang_up()
            consumer.close()
            assert rest.result(60) == []


def test_attach_without_free_descriptors_raises_clear_error(servers_directory):
    def attach_with_few():
        with mpqueue.attach("s", timeout=60) as consumer:  # imports modules that are loaded late
            assert len(list(consumer)) == 4
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        errors = []
        for limit in itertools.count(os.dup(0)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                mpqueue.attach("s", timeout=60).close()
                break
            except Exception as error:
                errors.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert len(errors) >= 3
        assert all("too many open files" in error.lower() and "ulimit -v" not in error for error in errors), errors
        assert any("to receive a descriptor" in error and "ulimit -n" in error for error in errors), errors

    with mpqueue.Server("s", list(range(4)), workers=1):
        assert status_of_fork(attach_with_few) == 0
