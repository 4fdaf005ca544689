"""A consumer of a scripted server: its loops, its requests, and its reactions to messages."""

import gc
import os
import pickle
import select
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from helpers.consumer_requests import ConsumerRequest
from helpers.engine_parts import lock_of
from helpers.finalizers import end_interrupted
from helpers.forked_calls import fork_of, status_of_fork
from helpers.numbered_batches import iter_after
from helpers.scripted_server import AutoServer, ScriptedServer, attached, batch_of, fill_connection
from helpers.service_parts import attachment_of, listener_of
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue.errors import ConsumerDied, ServiceDied, ServiceError
from mpqueue.service.consuming import attachment
from mpqueue.service.consuming import consumer as consumer_module
from mpqueue.service.consuming.attachment import Attachment
from mpqueue.service.protocol import records
from mpqueue.service.protocol.records import OFFER, Offer, Text, ToConsumer, ToServer
from mpqueue.service.protocol.specs import MAX_SPEC_BYTES
from mpqueue.worker import failures

AN_OFFER = Offer(ToConsumer.OFFER, 0, 1, 2, 3, 4, 5, 6, 7, 8)


@pytest.fixture
def server(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server:
        yield server


def auto(tmp_path, num_batches, **options):
    return AutoServer(tmp_path / "directory", num_batches, **options).start()


def numbers(batches):
    return [int(array[0, 0]) for array, _ in batches]


class TestLoops:
    def test_invalidated_loop_raises_on_next_request(self, tmp_path):
        with auto(tmp_path, 4) as server, attached_to(server) as consumer:
            old = iter_after(consumer, 1)
            new = iter(consumer)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="invalidated by a later iterator of the same Consumer"):
                    next(old)
            assert numbers(new) == [1, 2, 3]
            assert next(new, None) is None
            with pytest.raises(RuntimeError, match="attach twice"):
                list(zip(consumer, consumer, strict=False))
        assert server.faults == []

    def test_epoch_follows_batches_if_others_took_all_of_one(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(0), epoch=2)
            server.end(epoch=2)
            assert len(list(consumer)) == 1
            assert consumer.epoch == 3

    def test_several_threads_may_share_one_iterator(self, tmp_path):
        """Each batch goes to one thread, and the end to all."""
        with auto(tmp_path, 100) as server:
            with attached_to(server) as consumer, ThreadPoolExecutor(4) as pool:
                batches = iter(consumer)
                received = [part.result(60) for part in [pool.submit(numbers, batches) for _ in range(4)]]
                assert sorted(number for part in received for number in part) == list(range(100))
                assert list(batches) == []
        assert server.faults == []


def attached_to(server, **options):
    """A consumer of a server that answers by itself."""
    return mpqueue.attach(server.path, timeout=60, **options)


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """A server whose consumers count taken batches in memory, and send messages as rarely as possible."""
    monkeypatch.setattr(attachment, "_SILENT_NS", 1 << 62)
    with ScriptedServer(tmp_path / "directory", shares_taken=True) as server:
        yield server


class TestRequests:
    def test_fast_loop_counts_in_memory_and_sends_few_messages(self, counting):
        with attached(counting) as consumer:
            counting.offer(*map(batch_of, range(6)))
            batches = iter(consumer)
            for number in range(3):
                assert next(batches)[0][0, 0] == counting.word[0] == number
            assert counting.hear_all() == [ConsumerRequest(ToServer.BEGIN, 0), ConsumerRequest(ToServer.ASK, 0)]
            next(batches)  # half of the offers are left
            assert counting.hear_all() == [ConsumerRequest(ToServer.ASK, 3, (1, 2, 3))]
            consumer.close()
            *_, last = counting.hear_all()
            assert last == ConsumerRequest(ToServer.LEAVE)
            assert counting.word[0] == 3, "a batch is taken when the next one is requested"

    def test_first_request_of_a_loop_is_a_message(self, counting):
        with attached(counting) as consumer:
            counting.end()
            counting.offer(*map(batch_of, range(3)), epoch=1)
            assert list(consumer) == []  # reads the offers, too
            batches = iter(consumer)
            counting.hear_all()
            next(batches)
            assert counting.hear_all() == [ConsumerRequest(ToServer.ASK, 0)]

    def test_server_knows_all_taken_batches_before_the_end_of_the_epoch_is_delivered(self, counting):
        """Not only those before the latest message; the record of missed batches is not one more offer."""
        with attached(counting) as consumer:
            counting.offer(batch_of(0))
            counting.missed(3)
            counting.end(count=1)
            assert len(list(consumer)) == 1
            assert counting.hear_all()[-1].value == 1
            assert consumer.statistics().skipped == 3

    def test_loop_that_takes_its_time_sends_a_message_for_each_batch(self, counting, monkeypatch):
        monkeypatch.setattr(attachment, "_SILENT_NS", -1)
        with attached(counting) as consumer:
            counting.offer(*map(batch_of, range(3)))
            batches = iter(consumer)
            for number in range(3):
                next(batches)
                assert counting.hear_all()[-1].value == number

    def test_close_releases_slots_without_views_and_leaves(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(0), batch_of(1))
            batches = iter(consumer)
            kept = next(batches)
            next(batches)
            server.hear_all()
            consumer.close()
            assert server.hear_all() == [ConsumerRequest(ToServer.ASK, 1, (2,)), ConsumerRequest(ToServer.LEAVE)]
            assert kept[0][0, 0] == 0

    def test_server_that_reads_nothing_does_not_block_close(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(0))
            next(iter(consumer))
            fill_connection(consumer)
            consumer.close()
            assert "closed" in repr(consumer)
            server.hang_up()


class TestBatches:
    def test_views_are_read_only_and_valid_after_close_and_after_server_crash(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(7))
            array, rest = next(iter(consumer))
        server.close()
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True
        assert array.tolist() == [[7] * 3] * 4
        assert rest["number"].tolist() == [7, 8]

    def test_ninth_held_batch_is_a_private_copy(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr("mpqueue.memory.ring.COSTLY_BYTES", 200)  # logs that batches are held
        with auto(tmp_path, 20) as server:
            with attached_to(server) as consumer:
                kept = list(consumer)
                assert numbers(kept) == list(range(20))
                assert [array.flags.writeable for array, _ in kept] == [False] * 8 + [True] * 12
                statistics = consumer.statistics()
                assert (statistics.copies, statistics.slots_in_use) == (12, 8)
                kept.clear()
                del kept
                assert [array.flags.writeable for array, _ in consumer] == [False] * 20
        assert server.faults == []
        (warning,) = [record.getMessage() for record in caplog.records if "private copies" in record.getMessage()]
        assert 'writable="copy"' in warning

    def test_copies_are_writable_and_release_their_slots_immediately(self, server):
        with attached(server, writable="copy") as consumer:
            offers = server.offer(batch_of(0), batch_of(1))
            batches = iter(consumer)
            kept = [next(batches)]
            kept[0][0][:] = 5
            kept += [next(batches)]
            assert server.hear_all()[-1] == ConsumerRequest(ToServer.ASK, 1, (offers[0].turn,))
            assert kept[0][0].tolist() == [[5] * 3] * 4
            assert consumer.statistics().copies == 2

    def test_spec_may_arrive_in_parts(self, server):
        batch = {f"key {number}": np.array([number]) for number in range(100)}
        send = server.send_spec
        server.send_spec = lambda number, body, flags: send(number, body, flags, part=100)
        with attached(server) as consumer:
            server.offer(batch)
            received = next(iter(consumer))
            assert repr(received) == repr(batch)
            del received

    def test_skipped_samples_are_counted_and_not_returned(self, server):
        with attached(server) as consumer:
            server.offer((np.arange(3), [((1,), "why"), ((5, 6), "why not")], False), flags=records.PARTIAL)
            server.offer((None, [((9,), "why")], True), flags=records.PARTIAL)
            server.offer(np.arange(4))
            batches = iter(consumer)
            assert [len(next(batches)), len(next(batches))] == [3, 4]
            assert consumer.statistics().skipped == 4
            assert server.hear_all()[-1].value == 2


class TestFailures:
    @pytest.mark.parametrize(
        ("flag", "kind", "text"),
        [
            (records.DETACHED, ConsumerDied, "detached this consumer: you were slow"),
            (records.LOST, ConsumerDied, "another consumer of the group: you were slow"),
            (records.STOPPED, ServiceDied, "'scripted': you were slow"),
        ],
    )
    def test_cut_precedes_offers(self, server, flag, kind, text):
        with attached(server, reconnect=True) as consumer:
            server.offer(batch_of(0), batch_of(1))
            batches = iter(consumer)
            kept = next(batches)
            server.cut(flag, "you were slow")
            for ask in (lambda: next(batches), lambda: next(batches), lambda: iter(consumer)):
                with pytest.raises(kind, match=text):
                    ask()
            assert kept[0][0, 0] == 0
            assert "detached" in repr(consumer)

    def test_cut_sent_before_connection_reset_is_read(self, server):
        """The kernel reports the reset first."""
        with attached(server) as consumer:
            server.offer(batch_of(0))
            batches = iter_after(consumer, 1)
            server.cut(records.STOPPED, "enough")
            server.hang_up()
            with pytest.raises(ServiceDied, match="'scripted': enough"):
                next(batches)

    def test_server_crash_wakes_waiting_consumer(self, server):
        with attached(server) as consumer, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, iter(consumer))
            assert (server.hear().kind, server.hear().kind) == (ToServer.BEGIN, ToServer.ASK)
            server.hang_up()
            with pytest.raises(ServiceDied, match=r"has exited.*remain valid"):
                waiting.result(60)
            with pytest.raises(ServiceDied):
                iter(consumer)

    def test_end_of_epoch_received_before_crash_ends_loop(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(0))
            server.end()
            batches = iter_after(consumer, 1)
            server.hang_up()
            assert list(batches) == []
            with pytest.raises(ServiceDied):
                iter(consumer)

    @pytest.mark.parametrize(
        "message",
        [
            b"x" * 56,
            b"x" * 40_000,
            ConsumerRequest(ToServer.ASK, 1).pack(),
            OFFER.pack(*AN_OFFER) + OFFER.pack(*AN_OFFER._replace(kind=ToConsumer.SPEC)),
            OFFER.pack(*AN_OFFER) + Text(ToConsumer.CUT, records.DETACHED, 0, b"").pack(),
        ],
        ids=["no record", "too long", "a request", "a spec as an offer", "a text after an offer"],
    )
    def test_invalid_message_ends_connection_without_reconnect(self, server, message, monkeypatch):
        def looks(*_):
            raise AssertionError("it looks for another server")

        with attached(server, reconnect=True) as consumer:
            monkeypatch.setattr("mpqueue.service.consuming.consumer.open_attachment", looks)
            server.send(message)
            for _ in range(2):
                with pytest.raises(ServiceError, match="same version of mpqueue"):
                    next(iter(consumer))

    @pytest.mark.parametrize("field", [{"slot": 999}, {"nbytes": 1 << 40}, {"header_offset": 1 << 30}, {"spec": 77}])
    def test_offer_outside_of_ring_ends_connection(self, server, field):
        with attached(server) as consumer:
            server.send(OFFER.pack(*server.offer_of(batch_of(0))._replace(**field)))
            with pytest.raises(ServiceError, match="outside of the ring"):
                next(iter(consumer))

    def test_header_that_does_not_match_spec_ends_connection(self, server):
        with attached(server) as consumer:
            offer = server.offer_of(batch_of(0))
            server.send(OFFER.pack(*offer._replace(nbytes=offer.header_offset + 400)))
            with pytest.raises(ServiceError, match=r"does not match its spec|same version"):
                next(iter(consumer))

    def test_too_many_parts_of_spec_end_connection(self, server):
        part = Text(ToConsumer.SPEC, records.MORE, 0, b" ").pack()
        with attached(server) as consumer, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, iter(consumer))
            for _ in range(MAX_SPEC_BYTES // records.MAX_BODY + 3):
                server.send(part)
            with pytest.raises(ServiceError, match="an incomplete spec"):
                waiting.result(60)


class TestOthers:
    """Servers of other users, represented by `allow_pickle=False`."""

    def test_pickled_objects_are_refused(self, server):
        """Arrays need no pickle."""
        with attached(server, allow_pickle=False) as consumer:
            server.offer(batch_of(3))
            server.offer({"text": "hello", "array": np.arange(3)})
            batches = iter(consumer)
            assert numbers([next(batches)]) == [3]
            for _ in range(2):
                with pytest.raises(ServiceError, match="allow_pickle=True"):
                    next(batches)

    def test_objects_hidden_by_spec_are_refused(self, server):
        """The header announces a pickle, and the spec only arrays."""
        spec = server.spec
        with attached(server, allow_pickle=False) as consumer:
            server.spec(([np.arange(3)],))
            server.spec = lambda _batch: 0
            server.offer(([np.arange(3)], "hello"))
            server.spec = spec
            with pytest.raises(ServiceError, match="allow_pickle=True"):
                next(iter(consumer))

    def test_pickled_exceptions_are_refused(self, server):
        with attached(server, allow_pickle=False) as consumer:
            server.raised(failures.pack(KeyError("broken"), "raised there"), records.PICKLED)
            server.offer(batch_of(1))
            batches = iter(consumer)
            with pytest.raises(ServiceError, match="allow_pickle=True"):
                next(batches)
            assert numbers([next(batches)]) == [1]


class TestEnd:
    def test_close_ends_iterator_that_waits_in_another_thread(self, server):
        with attached(server) as consumer, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(list, consumer)
            assert (server.hear().kind, server.hear().kind) == (ToServer.BEGIN, ToServer.ASK)
            consumer.close()
            assert waiting.result(60) == []
            assert server.hear() == ConsumerRequest(ToServer.LEAVE)
            assert server.hear() is None

    @pytest.mark.parametrize("how", ["beside a loop", "before a request", "twice"])
    def test_views_keep_the_connection_of_a_closed_consumer(self, server, how):
        """After `LEAVE`, a closed connection means that no view is left, and the server writes to the slots again."""
        with attached(server) as consumer, ThreadPoolExecutor(1) as pool:
            batches = iter(consumer)
            server.offer(batch_of(5))
            batch = next(batches)
            if how == "beside a loop":
                waiting = pool.submit(next, batches, None)
                while server.hear() != ConsumerRequest(ToServer.ASK, 1):
                    pass
                consumer.close()
                assert waiting.result(60) is None
            else:
                consumer.close()
                if how == "before a request":
                    assert next(batches, None) is None
                consumer.close()
            while (request := server.hear()) != ConsumerRequest(ToServer.LEAVE):
                assert request is not None
            assert not select.select([server.peer], [], [], 0)[0]
            assert batch[0][0, 0] == 5
            del batch
            gc.collect()
            assert server.hear() is None

    def test_link_is_not_closed_while_close_notifies_the_server_beside_a_loop(self, server, monkeypatch):
        """The loop may end at this moment and close the socket. Its number may then belong to a different file."""
        has_lock, may_close = threading.Event(), threading.Event()

        def end_loop():
            with lock_of(consumer):
                has_lock.set()
                assert may_close.wait(60)
                link.fail("the end")

        def send_late(send, *message):
            may_close.set()
            wait([ending], timeout=0.2)  # it has to wait for this call
            return send(*message)

        with attached(server) as consumer, ThreadPoolExecutor(1) as pool:
            link = attachment_of(consumer).link
            ending = pool.submit(end_loop)
            assert has_lock.wait(60)
            wrap(monkeypatch, link, "_send", send_late)
            consumer.close()
            ending.result(60)
            assert server.hear() == ConsumerRequest(ToServer.LEAVE)

    def test_close_while_another_server_is_found_ends_the_loop(self, server, monkeypatch):
        def close_at_the_end(*arguments):
            attachment = open_attachment(*arguments)
            attachment_of(consumer).link.leave_concurrently = has_left.set
            closing.append(pool.submit(consumer.close))
            assert has_left.wait(60)
            return attachment

        closing, has_left, open_attachment = [], threading.Event(), consumer_module.open_attachment
        with ThreadPoolExecutor(2) as pool, attached(server, reconnect=True) as consumer:
            waiting = pool.submit(list, consumer)
            assert server.hear().kind == ToServer.BEGIN
            monkeypatch.setattr(consumer_module, "open_attachment", close_at_the_end)
            server.hang_up()
            server.greet()
            assert waiting.result(60) == []
            closing[0].result(60)
            assert server.hear() == ConsumerRequest(ToServer.LEAVE)

    def test_closed_consumer_raises_clear_error(self, server):
        with attached(server) as consumer:
            batches = iter(consumer)
            consumer.close()
            consumer.close()
            assert list(batches) == []
            with pytest.raises(RuntimeError, match=r"closed: attach again"):
                iter(consumer)

    def test_close_ends_reconnection_without_an_answer(self, server):
        with ThreadPoolExecutor(1) as pool, attached(server, reconnect=True) as consumer:
            waiting = pool.submit(list, consumer)
            assert server.hear().kind == ToServer.BEGIN
            server.hang_up()
            # It has connected again, to a server that does not answer.
            assert select.select([listener_of(server)], [], [], 60)[0]
            consumer.close()
            assert waiting.result(60) == []

    def test_garbage_collection_closes_connection(self, server):
        with attached(server) as consumer:
            iter(consumer)
            consumer.close = lambda: None
        del consumer
        gc.collect()
        assert server.hear().kind == ToServer.BEGIN
        # It did not leave regularly, so the seat of a rank is kept.
        assert server.hear() == ConsumerRequest(ToServer.LEAVE, records.DROPPED)
        assert server.hear() is None

    def test_interrupt_while_a_consumer_is_collected_is_raised_after_it_has_left(self, server, monkeypatch):
        with attached(server) as consumer:
            consumers = [consumer]
            consumer.close = lambda: None
        del consumer
        end_interrupted(monkeypatch, Attachment, "abandon", consumers.clear)
        assert server.hear() == ConsumerRequest(ToServer.LEAVE, records.DROPPED)
        assert server.hear() is None

    def test_iterator_keeps_its_consumer_alive(self, tmp_path):
        with auto(tmp_path, 3) as server:
            assert numbers(iter(attached_to(server))) == [0, 1, 2]
            gc.collect()

    def test_consumer_cannot_be_pickled(self, server):
        with attached(server) as consumer, pytest.raises(TypeError, match="Attach in the other process"):
            pickle.dumps(consumer)

    def test_forked_child_is_refused_and_disturbs_no_other_process(self, server):
        with attached(server) as consumer:
            server.offer(batch_of(0), batch_of(1))
            batches = iter(consumer)
            kept = next(batches)

            def use():
                nonlocal batches, consumer
                for call in (lambda: next(batches), lambda: iter(consumer)):
                    with pytest.raises(RuntimeError, match=r"forked: attach in this process"):
                        call()
                consumer.close()
                batches = consumer = None
                gc.collect()
                assert kept[0][0, 0] == 0

            assert status_of_fork(use) == 0
            server.hear_all()
            assert numbers([next(batches)]) == [1]
            assert server.hear_all() == [ConsumerRequest(ToServer.ASK, 1)]

    def test_child_with_open_socket_does_not_hide_server_crash(self, tmp_path):
        """The consumer watches the process, too."""
        ready, go = os.pipe(), os.pipe()

        def serve():
            server = ScriptedServer(tmp_path / "directory")
            os.write(ready[1], b"!")
            server.greet()
            server.offer(batch_of(0))
            fork_of(lambda: os.read(go[0], 1) and None)

        pid = fork_of(serve)
        os.read(ready[0], 1)
        with mpqueue.attach(str(tmp_path / "directory"), timeout=60) as consumer:
            with pytest.raises(ServiceDied):
                list(consumer)
        os.write(go[1], b"!")
        os.waitpid(pid, 0)
        for fd in (*ready, *go):
            os.close(fd)


class TestStatistics:
    def test_statistics_count_batches_and_bytes(self, server):
        with attached(server) as consumer:
            offers = server.offer(*[batch_of(number) for number in range(5)])
            batches = iter(consumer)
            kept = [next(batches), next(batches)]
            received = consumer.statistics()
            assert (received.batches, received.bytes) == (2, offers[0].nbytes + offers[1].nbytes)
            assert (received.slots_in_use, received.offered, received.copies, received.skipped) == (2, 3, 0, 0)
            assert len(kept) == 2
