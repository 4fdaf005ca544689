"""Recalls in split mode without ranks: a waiting consumer gets the unrequested offers of an idle one."""

import itertools
import json
import math
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from types import SimpleNamespace

import pytest
from helpers import sweeps
from helpers.consumer_processes import Indices, firsts
from helpers.service_simulation import rules_of
from helpers.waits import until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import ServiceDied
from mpqueue.service.consuming import attachment
from mpqueue.service.consuming.attachment import Attachment
from mpqueue.service.consuming.link import ServerLink
from mpqueue.service.protocol.handshake import Hello
from mpqueue.service.protocol.records import OFFER, ToConsumer, ToServer, pack_request
from mpqueue.service.routing.core import Core
from mpqueue.service.serving.connections import Peer, Stage
from mpqueue.service.serving.consumers import Consumers
from mpqueue.system.descriptors import descriptors
from mpqueue.transport.credentials import Credentials

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("servers_directory")]


@pytest.mark.parametrize("journal", [False, True], ids=["ahead", "one at a time"])
def test_idle_consumer_keeps_only_its_latest_batch(puppets, tmp_path, journal):
    options = {"journal": str(tmp_path / "journal")} if journal else {}
    with mpqueue.Server("s", Indices(4), workers=1, **options) as server:
        idle, busy = (puppets("s").attached() for _ in range(2))
        (first,) = idle.do("take")[:1]
        others = firsts(busy.take(3))
        assert sorted([first, *others]) == [0, 1, 2, 3]
        busy.tell("take_all")  # waits: the idle consumer has not requested another batch, and may crash with this one
        counters = next(one for one in server.statistics().consumers if one.pid == idle.process.pid)
        assert (counters.behind, counters.batches) == (1, 0)
        assert (counters.recalled > 0) is not journal
        assert idle.do("take") is None
        assert busy.answer() == [], "it ends as soon as all batches are taken"
        idle.do("loop")
        assert idle.do("take") is not None, "it is offered batches again"


KILLED = """
import json, os, signal, sys, mpqueue
batches = iter(mpqueue.attach("s", timeout=60))
taken = [next(batches)]
sys.stdin.read()  # until many batches are assigned to it
taken += [next(batches) for _ in range(7)]
print(json.dumps([int(batch[0]) for batch in taken]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _behind(server, pid):
    return next((one.behind for one in server.statistics().consumers if one.pid == pid), 0)


def test_batches_of_killed_consumer_with_many_offers_go_to_others_once():
    command = [sys.executable, "-c", KILLED]
    with (
        mpqueue.Server("s", Indices(100), workers=1, max_queue_size=32) as server,
        mpqueue.attach("s", timeout=60) as other,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed,
    ):
        until(lambda: _behind(server, killed.pid) >= 8, "few batches were assigned to it")
        printed, _ = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
        taken, rest = json.loads(printed), [int(batch[0]) for batch in other]
        # It had not requested another batch after the last one.
        assert sorted([*taken[:-1], *rest]) == list(range(100))


# -- All orders of the steps of a server and two consumers, with real connection ends


class Killed(BaseException):
    """The process of an actor has exited."""


class Actor:
    """A program that runs in single steps, from pause to pause; only one actor runs at any time."""

    def __init__(self, script):
        self._go, self._has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self.is_over = self.is_killed = False
        self.error = None
        self._thread = threading.Thread(target=self._run, args=(script,), daemon=True)
        self._thread.start()

    def _run(self, script):
        self._go.acquire()
        try:
            if not self.is_killed:
                script(self)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._has_paused.release()

    def step(self):
        if not self.is_over:
            self._go.release()
            assert self._has_paused.acquire(timeout=60)
        if self.error is not None:
            raise self.error

    def pause(self):
        self._has_paused.release()
        self._go.acquire()
        if self.is_killed:
            raise Killed

    def kill(self):
        self.is_killed, self.error = True, None
        self.step()
        self._thread.join(60)


def paused(pause, call):
    """Return a function that pauses before each call."""

    def step(*args):
        pause()
        return call(*args)

    return step


class PausingSocket:
    """A socket that pauses before each call."""

    def __init__(self, sock, pause):
        self.fileno, self.close, self.type = sock.fileno, sock.close, sock.type
        self.send, self.sendmsg, self.recv = (paused(pause, call) for call in (sock.send, sock.sendmsg, sock.recv))


class Ring:
    """The ring of a consumer: records the opened batches, and releases each one after its delivery."""

    def __init__(self):
        self.ended = {}
        self.opened = []

    def collect(self):
        """Release all views."""

    def next_released(self):
        return tuple(self.ended)[:2]

    def forget(self, released):
        for turn in released:
            self.ended.pop(turn, None)

    def enter(self, offer):
        self.ended[offer.turn] = None


class Word(list):
    """A number in shared memory; pauses before each change."""

    pause = staticmethod(lambda: None)

    def __setitem__(self, key, value):
        self.pause()
        super().__setitem__(key, value)


class PausingLink(ServerLink):
    """A link that pauses before each call, and while it waits."""

    def pause_by(self, actor):
        send, receive, poll = self._send, self._receive, self._poll

        def waited(*args):
            actor.pause()
            while not (events := poll(0)) and not args:
                actor.pause()
            return events

        self._send, self._receive, self._poll = paused(actor.pause, send), paused(actor.pause, receive), waited


class CountingAttachment(Attachment):
    """A connection that shows how many taken batches it has reported."""

    num_reported = property(lambda self: self._num_sent)


class Trainer:
    """A consumer with its real `Attachment` and `ServerLink`; ``taken`` is shared with the server, or None."""

    def __init__(self, sock, num_epochs, taken):
        self.sock, self._num_epochs = sock, num_epochs
        self.link = PausingLink(sock, -1, "s")
        self.attachment = CountingAttachment(self.link, Ring(), SimpleNamespace(length=None), taken=taken)
        self.taken = taken
        self.handed = []
        self.has_asked = False
        self.epoch = 0
        self.actor = Actor(self.run)

    def run(self, actor):
        link, attachment = self.link, self.attachment
        if self.taken is not None:
            self.taken.pause = actor.pause
        link.pause_by(actor)
        while self.epoch < self._num_epochs:
            attachment.begin(self.epoch)
            self.has_asked = True
            attachment.ask()
            record = attachment.next_record()
            actor.pause()  # it is being opened
            if record.kind == ToConsumer.END:
                link.arrived.popleft()
                if record.epoch >= self.epoch:  # otherwise it was sent again
                    attachment.has_begun.clear()
                    self.epoch, self.has_asked = record.epoch + 1, False
                continue
            attachment.latest = record
            attachment.enter(record)
            self.handed.append((record.epoch, record.position))

    def kill(self):
        self.actor.kill()
        self.sock.close()


class ModelConsumers(Consumers):
    """A server with its real core, peers and message handling; its stream yields all requested batches at once."""

    def __init__(self, length, window, socks, words, **rules):
        self._length, self._position = length, 0
        self._turn, self.taken, self.may_cut_off = 0, Counter(), False
        self._core = Core(rules_of(window=window, **rules), self)
        self._handlers = SimpleNamespace(unwatch=lambda fd: None, watch_room=lambda fd, is_full: None)
        self._admission = SimpleNamespace(note_departure=lambda peer: None, take_waiting=list, waiting=(), sentinels={})
        self.peers = {}
        self.actor = Actor(self.serve)
        for index, sock in enumerate(socks, 1):
            peer = Peer(index, PausingSocket(sock, self.actor.pause), Credentials(1, 0, 0), 0.0)
            peer.stage = Stage.ATTACHED
            peer.taken = words[index - 1] or (0,)
            self.peers[index] = peer
            self._core.attach(index, Hello(rank=index - 1 if self._core.rules.mode.num_ranks else None), now=0.0)

    def has_events(self):
        socks = [peer.sock.fileno() for peer in self.peers.values() if peer.sock is not None]
        return bool(select.select(socks, [], [], 0)[0] or self._core.group.unasked())

    def serve(self, actor):
        goes_on = False
        while True:
            actor.pause()
            if not (goes_on or self.has_events()):
                continue  # asleep
            goes_on = False
            for peer in list(self.peers.values()):
                if peer.sock is not None:  # a recall may have read the end-of-file
                    self._hear(peer)
                if peer.sock is None and peer.id in self.peers:
                    self._note_death(peer)  # the views of its batches are released
            self.settle_all()
            while self._core.wants_batch():
                if self._position < self._length:
                    self._position += 1
                    epoch, position, self._turn = self._core.epoch, self._position - 1, self._turn + 1
                    self._core.arrived(SimpleNamespace(epoch=epoch, position=position, turn=self._turn))
                else:
                    self._core.ended()
            for peer in list(self.peers.values()):
                peer.flush()
            while self.recall(math.inf):
                goes_on = True
                for peer in list(self.peers.values()):
                    peer.flush()

    # Actions of the core

    def offer(self, consumer, number, batch):
        self.peers[consumer].offer(
            OFFER.pack(ToConsumer.OFFER, 0, 0, number, batch.turn, 0, batch.epoch, batch.position, 0, 0)
        )

    def withdraw(self, consumer, batch, *, has_more):
        """Draw no number."""

    def end(self, consumer, epoch, count):
        self.peers[consumer].offer(OFFER.pack(ToConsumer.END, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def cut(self, consumer, flag, text):
        raise AssertionError(text)

    def _cut_off(self, peer, why):
        assert self.may_cut_off, why
        super()._cut_off(peer, why)

    core = property(lambda self: self._core)

    def share(self, batch):
        """This model has no ring, so it has no slots."""

    def free(self, batch):
        """See `share`."""

    def open_epoch(self, epoch):
        self._position = 0
        return self._length

    def finish_epoch(self, epoch):
        """The next epoch opens when a consumer begins it."""

    def note_taken(self, seat, batch):
        self.taken[batch.epoch, batch.position] += 1


class Model:
    """One server with two consumers."""

    def __init__(self, length, window, num_epochs, *, shares, **rules):
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        for ours, theirs in pairs:
            ours.setblocking(False)
            theirs.setblocking(True)
            descriptors.own_object(theirs)
        words = [Word([0]) if shares else None for _ in pairs]
        self.server = ModelConsumers(length, window, [ours for ours, _ in pairs], words, **rules)
        self.trainers = [Trainer(theirs, num_epochs, word) for (_, theirs), word in zip(pairs, words, strict=True)]
        self.pairs = pairs

    def step(self, which):
        (self.server.actor, *(trainer.actor for trainer in self.trainers))[which].step()

    def run_to_end(self, *which):
        """Run the server and these consumers until all epochs end; return whether they do."""
        for _ in range(500):
            if all(trainer.actor.is_over for trainer in which):
                return True
            for _ in range(3):
                self.server.actor.step()
            for trainer in which:
                trainer.actor.step()
        return False

    def handed(self):
        return Counter(position for trainer in self.trainers for position in trainer.handed)

    def close(self):
        self.server.actor.kill()
        for trainer, (ours, theirs) in zip(self.trainers, self.pairs, strict=True):
            trainer.actor.kill()
            ours.close()
            descriptors.close_object(theirs)


def steps_of(*actors, max_size):
    """Return lists of steps. Each actor often makes several in a row, such as a consumer that takes several batches."""
    runs = st.tuples(st.sampled_from(actors), st.integers(1, 12))
    return st.lists(runs, max_size=max_size).map(lambda found: [which for which, count in found for _ in range(count)])


STEPS = steps_of(0, 0, 1, 2, max_size=30)
SIZES = {"length": st.integers(1, 10), "window": st.integers(1, 6)}
WELL = settings(max_examples=sweeps.part_of(40, 4), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=[True, False], ids=["in memory", "by message"])
def shares(request):
    """Consumers count taken batches in shared memory; then they send messages as rarely as possible."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachment, "_SILENT_NS", 1 << 62)
        yield request.param


def run(length, window, num_epochs, steps, **rules):
    model = Model(length, window, num_epochs, **rules)
    for which in steps:
        model.step(which)
    return model


@pytest.mark.parametrize("rules", [{}, {"world": 2}, {"mode": "broadcast", "world": 2}], ids=str)
@WELL
@given(steps=STEPS, **SIZES)
def test_each_batch_is_delivered_once_in_any_interleaving(shares, rules, steps, length, window):
    length *= 2  # the ranks get equal shares
    with closing(run(length, window, 2, steps, shares=shares, **rules)) as model:
        assert model.run_to_end(*model.trainers)
        number = 2 if "mode" in rules else 1
        everything = Counter(dict.fromkeys(itertools.product(range(2), range(length)), number))
        assert model.handed() == model.server.taken == everything
        assert not model.server.core.holders.by_turn


@pytest.mark.sample(1)
@WELL
@given(steps=STEPS, **SIZES)
def test_active_consumer_gets_all_but_one_batch_of_idle_one(shares, steps, length, window):
    with closing(run(length, window, 1, steps, shares=shares)) as model:
        idle, busy = model.trainers
        had_asked = idle.has_asked  # and may have opened one
        is_over = model.run_to_end(busy)
        handed = model.handed()
        assert set(handed.values()) <= {1}
        assert sum(handed.values()) >= length - 1
        if not had_asked:
            assert is_over
            assert sum(handed.values()) == length
        assert model.run_to_end(idle, busy)  # if the epoch ended without the idle consumer, its loop was the next epoch
        assert set(model.handed().values()) == {1}
        assert {(0, position) for position in range(length)} <= model.handed().keys()


@WELL
@given(steps=STEPS, then=STEPS, **SIZES)
def test_taken_batches_go_to_no_other_consumer_after_a_kill_at_any_step(shares, steps, then, length, window):
    with closing(run(length, window, 1, steps, shares=shares)) as model:
        dead, alive = model.trainers
        dead.kill()
        for which in then:
            if which < 2:
                model.step(which * 2)
        assert model.run_to_end(alive)
        assert model.server.taken == Counter((0, position) for position in range(length))
        assert max(Counter(alive.handed).values(), default=1) == 1
        # Batches with a later request that the server has received are taken; the last one may not be.
        again = [position for position in dead.handed if position in alive.handed]
        assert again in ([], dead.handed[-1:])


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
@pytest.mark.sample(2)
@pytest.mark.parametrize("num_server", range(14))
def test_batches_that_were_taken_without_a_message_go_to_no_other_consumer(num_server, dies):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachment, "_SILENT_NS", 1 << 62)
        num_silent = 0
        for num_steps, num_more in itertools.product(range(7, 14), range(7)):
            # All offers arrive in one message. Then another consumer waits, so that the server recalls the rest.
            steps = [*[1] * 4, *[0] * 12, *[1] * num_steps, *[2] * 6, *[0] * num_server, *[1] * num_more]
            with closing(run(6, 6, 1, steps, shares=True)) as model:
                first, other = model.trainers
                num_silent = max(num_silent, first.taken[0] - first.attachment.num_reported)
                if dies:
                    first.kill()
                assert model.run_to_end(*[other] if dies else model.trainers)
                again = [position for position in first.handed if position in other.handed]
                assert again in ([], first.handed[-1:] if dies else [])
                assert set(model.handed()) == {(0, position) for position in range(6)}
                assert max(Counter(other.handed).values(), default=1) == 1
                assert set(model.server.taken.values()) == {1}
        assert num_silent >= 2


@WELL
@given(steps=STEPS, **SIZES)
def test_no_batch_arrived_twice_if_server_is_killed_at_any_step(shares, steps, length, window):
    with closing(run(length, window, 100, steps, shares=shares)) as model:  # more epochs than the steps suffice for
        model.server.actor.kill()
        for ours, _ in model.pairs:
            ours.close()
        for trainer in model.trainers:
            with pytest.raises(ServiceDied):
                while not trainer.actor.is_over:
                    trainer.actor.step()
        assert max(model.handed().values(), default=1) == 1
        assert not set(model.server.taken) - set(model.handed())


class Forged:
    """A number that another process changes between any two reads."""

    def __init__(self, chance):
        self._chance = chance

    def __getitem__(self, key):
        return self._chance.choice([0, 0, 0, 1, 1, 2, 3, 5, 1 << 63, (1 << 64) - 1])


@pytest.mark.parametrize("rules", [{}, {"mode": "broadcast", "world": 2}], ids=str)
@WELL
@given(steps=STEPS, seed=st.integers(0, 1 << 32), **SIZES)
def test_number_in_memory_that_changes_at_any_moment_harms_only_its_consumer(rules, steps, seed, length, window):
    with closing(Model(length, window, 1, shares=True, **rules)) as model:
        liar, other = model.trainers
        model.server.peers[1].taken = Forged(random.Random(seed))
        model.server.may_cut_off = True
        liar.sock.send(pack_request(ToServer.BEGIN, 0))
        liar.sock.send(pack_request(ToServer.ASK, 0))
        for which in steps:
            model.step(which - which % 2)  # the server, and the other consumer
        liar.kill()
        assert model.run_to_end(other)
        assert max(Counter(other.handed).values(), default=1) == 1
        delivered = set(other.handed) if "mode" in rules else model.server.taken.keys()
        assert delivered == {(0, position) for position in range(length)}


class LiesAtRecalls:
    """A number that differs when the server has sent a `RECALL`."""

    def __init__(self, number):
        self._number = number

    def __getitem__(self, key):
        return self._number if sys._getframe(1).f_code.co_name == "_report" else 0


@pytest.mark.parametrize("number", [3, 1 << 63])
def test_number_that_is_forged_at_a_recall_keeps_no_batch_from_the_others(number):
    with closing(Model(8, 2, 1, shares=True)) as model:
        liar, other = model.trainers
        model.server.peers[1].taken = LiesAtRecalls(number)
        model.server.may_cut_off = True
        liar.sock.send(pack_request(ToServer.BEGIN, 0))
        for _ in range(6):
            model.step(0)
        assert model.server.core.group.by_consumer[1].untaken
        assert model.run_to_end(other)
        assert model.server.taken == Counter((0, position) for position in range(8))
