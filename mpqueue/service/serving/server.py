"""`Server`: computes batches once for many consumers in other processes of this host.

The server owns the name (a `Claim`), the stream (ring, workers), the connections, and one thread, the `Loop`, which
uses all of them between `start` and `stop`. Other threads read the counters for `statistics` without a lock. If the
server crashes, consumers keep their views, and with a journal the next server continues.
"""

import contextlib
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn, Self, Unpack

from mpqueue.engine.stopping import checked_wait
from mpqueue.errors import ServiceError, ServiceStateError
from mpqueue.plan.ids.history import At, History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.options import Options, ServerOptions, StreamOptions
from mpqueue.plan.options.signatures import Fixed, shows_options
from mpqueue.service.protocol.handshake import Welcome
from mpqueue.service.protocol.refusals import Redirected
from mpqueue.service.protocol.server_directory import Claim, ServerDirectory, checked_uid
from mpqueue.service.routing.core import Core
from mpqueue.service.routing.modes import mode_of
from mpqueue.service.routing.routing import Seat
from mpqueue.service.routing.rules import Rules
from mpqueue.service.serving.admission import Admission
from mpqueue.service.serving.checkpoints import Checkpoints
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.service.serving.journal import Journal, Recovered, job_of, lock_journal, point_in, read_journal
from mpqueue.service.serving.loop import Loop
from mpqueue.service.serving.reports import ServerStatistics, statistics_of
from mpqueue.service.stream.lane_stream import LaneStream
from mpqueue.service.stream.making import make_stream
from mpqueue.service.stream.stream import Stream, StreamStart
from mpqueue.system.processes import forked
from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock
from mpqueue.system.units import count_text
from mpqueue.system.user_code.keywords import suggests_keywords
from mpqueue.telemetry import live

_IDS = "put the ids of the samples into the batches, or use a Loader with the same seed"
_RANKS = 'pass mode="split" and world=N to the server, and rank=R to mpqueue.attach'


@suggests_keywords
@shows_options(ServerOptions)
class Server(Redirected, Fixed):
    """A server that provides the batches of a source to consumers in other processes; see `mpqueue.attach`.

    The server's worker processes compute the batches like a `Loader`. Consumers get read-only views of them.

    Example:
        Two epochs for two consumers, usually in other programs::

            import threading
            import numpy as np
            import mpqueue

            squares = [np.full(4, number**2) for number in range(6)]

            def train(found):
                with mpqueue.attach("squares", timeout=30) as consumer:
                    for epoch in range(2):
                        found += [int(batch[0]) for batch in consumer]

            found = [], []
            with mpqueue.Server("squares", squares, mode="broadcast", world=2, workers=2):
                trainers = [threading.Thread(target=train, args=(own,)) for own in found]
                for trainer in trainers:
                    trainer.start()
                for trainer in trainers:
                    trainer.join()
            assert found[0] == found[1] == [0, 1, 4, 9, 16, 25] * 2

    Args:
        name: The name that consumers pass to `mpqueue.attach`, or the path of a folder, with a slash in it.
        source: A `Sequence`, or any object with ``__getitem__`` and ``__len__`` (or ``num_batches``), or a generator
            function.
        **options: See the signature.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, conflicts with another option, or has no meaning for a server.
    """

    _elsewhere = {  # noqa: RUF012 - never changed
        "exclude": "stop the server, and start it with exclude=ids; with the same journal, it continues",
        "set_weights": "a server computes each batch once, with the weights of its dataset; a Loader can change them",
        **dict.fromkeys(("last", "explain", "compute", "seek"), _IDS),
    }
    _job: str  # a hash that identifies the stream; set by `start`
    _is_entered = False  # inside of `with`

    def __init__(self, name: str, source: Any, **options: Unpack[ServerOptions]) -> None:
        for option, remedy in (("shard", 'mode="split" with world=N'), ("copy", 'writable="copy" to mpqueue.attach')):
            if options.get(option):
                raise ValueError(f"{option} is not an option of a server: pass {remedy} instead")
        chosen = Options.of(
            ServerOptions,
            options,
            "Server",
            **dict.fromkeys(("rank", "world_size", "num_replicas"), _RANKS),
        )
        self._directory = ServerDirectory.of(name)
        # Each epoch writes the file again, and the program may have changed its working directory by then.
        self._journal_path = None if chosen.journal is None else os.path.abspath(os.path.expanduser(chosen.journal))
        # With a journal, offer one batch ahead: after a crash, the journal could not show whether further offers
        # were taken.
        window = chosen.max_queue_size if self._journal_path is None else 1
        self._uids = _checked_uids(chosen.allow_uids)
        workers = num_cpus() if chosen.workers is None else chosen.workers
        mode = mode_of(chosen.mode, chosen.world)
        own = chosen.replace(workers=workers, world=mode.num_shares)
        # Only ranks get equal shares; in other modes the stream has a single share. `start` creates the stream again.
        self._make_stream = partial(
            make_stream, source, has_other_users=bool(self._uids), **own.values_of(StreamOptions)
        )
        stream = self._stream = self._make_stream()
        if self._journal_path is not None:
            stream.check_restartable()
        self._rules = Rules(
            mode=mode,
            window=window,
            slow=chosen.slow,
            grace_s=float(chosen.grace_s),
            lease_timeout=None if chosen.lease_timeout is None else float(chosen.lease_timeout),
            is_ordered=stream.is_ordered,
        )
        self._loop: Loop | None = None
        self._latest = ServerStatistics()
        self._lock = RLock()
        forked.watch(self)
        self._is_fixed = True

    @property
    def name(self) -> str:
        """The name."""
        return self._directory.name

    @property
    def folder(self) -> str:
        """The folder of the server, which containers mount."""
        return self._directory.folder

    def start(self) -> Self:
        """Start the workers and serve. Return when consumers can attach.

        Raises:
            ServiceError: The name or the journal is in use; the folder cannot be created or used; or the journal
                belongs to another stream.
            ServiceStateError: The server is already running.
            OSError: There are not enough processes, threads, descriptors or memory.
        """
        with self._lock:
            if self._loop is not None:
                raise ServiceStateError(f"the server {self.name!r} is already running: call stop() before start()")
            with contextlib.ExitStack() as undo:
                # A signal handler that raised between the claim and the callback would leave the name in use.
                with defer_signals():
                    claim = self._directory.claim(is_open_to_others=bool(self._uids))
                    undo.callback(claim.close)
                    if self._journal_path is not None:
                        # Before it is read: a server of a different name may be writing to it.
                        undo.callback(lock_journal(self._journal_path))
                self._stream, recovered = self._recover()
                self._job = recovered.job or job_of(self._stream, self._rules)
                journal = self._open_journal(recovered, undo)
                undo.callback(self._stream.stop)  # before the start, which may be interrupted at its last step
                self._stream.start()
                # If any step failed, the exit stack has undone the earlier ones. From here on `stop` does it. Without
                # the deferral, a handler could raise in between, and the parts of a running thread would be closed.
                with defer_signals():
                    self._loop = self._serve(claim, journal, recovered)
                    self._undo = undo.pop_all()
            live.add(self, "Server")
        return self

    def _recover(self) -> tuple[Stream, Recovered]:
        """Return the stream at its point, and the contents of the journal."""
        recovered = None if self._journal_path is None else read_journal(self._journal_path)
        if recovered is None:
            return self._make_stream(), Recovered()
        # Without a given seed, use the journal's: another random seed would be a different stream.
        seed = recovered.seed if self._make_stream.keywords["seed"] is None else self._make_stream.keywords["seed"]
        if job_of(self._make_stream(seed=seed), self._rules) != recovered.job:
            raise ServiceError(
                f"the journal {self._journal_path} belongs to another stream: use the same source, length, seed and "
                "options, or another journal"
            )
        recovered.renumber(has_ranks=self._rules.mode.num_ranks > 0)
        point, history = point_in(recovered, self._rules.mode), self._history_after(recovered)
        stream = self._make_stream(seed=seed, start=StreamStart(point, recovered.lanes, history))
        # Load the state before the workers start, because they receive a copy of the source then.
        if recovered.state is not None:
            stream.job.source.load_state_dict(recovered.state)
        return stream, recovered

    def _history_after(self, recovered: Recovered) -> History:
        """Return the exclusions of a journal, and the ones that this server adds.

        Raises:
            ServiceError: The server lacks some of them, or cannot exclude others in the middle of an endless stream.
        """
        history, added = recovered.history, SampleSet.of(self._make_stream.keywords["exclude"] or ())
        before = history.excluded
        if before is not None and not added.contains_all(before):
            raise ServiceError(
                f"exclude must have all samples that the journal {self._journal_path} leaves out, got {added!r}: pass "
                f"exclude={before.plain()!r}, and others if you like, or use another journal"
            )
        plan, world = self._stream.plan, self._rules.mode.num_shares
        latest = max((position for _, position in recovered.pairs()), default=-1)
        # A consumer has one more batch than the journal, if it was attached.
        begins = At(recovered.epoch, (latest // world + 1 + bool(recovered.survivors)) * world, world)
        # Batches of the epoch are computed again, and an element less would move the others to other batches.
        if not plan.has_index and (begins.batch or recovered.lanes is not None):
            if plan.ends_by_count and history.with_exclusion(begins, added) is not history:
                raise ServiceError(
                    f"the journal {self._journal_path} is in the middle of an endless stream, and cannot leave out "
                    "more samples: pass the same exclude=, or use another journal"
                )
            begins = At(recovered.epoch + 1, 0, world)
        return history.with_exclusion(begins, added)

    def _open_journal(self, recovered: Recovered, undo: contextlib.ExitStack) -> Journal | None:
        if self._journal_path is None:
            return None
        journal = Journal(self._journal_path, self._job, self._stream.plan.seed, self._stream.history)
        undo.callback(journal.close)
        journal.await_back(recovered.survivors)
        state = recovered.state if recovered.job else self._stream.source_state()
        # Written before any consumer can attach, with the recovered batches: a second crash must not lose them.
        journal.begin(recovered.epoch, state, recovered.pairs(), recovered.lanes)
        return journal

    def _serve(self, claim: Claim, journal: Journal | None, recovered: Recovered) -> Loop:
        """Create the parts of the server and start its thread."""
        stream, rules, mode = self._stream, self._rules, self._rules.mode
        # With an index, the journaled positions are enough to resume. A stream with lanes needs snapshots to resume in
        # the middle.
        checkpoints = None
        if isinstance(stream, LaneStream) and journal is not None:
            checkpoints = Checkpoints(journal, stream, mode)
            # Without this, the first checkpoint would be missing the batches that were taken before the restart.
            checkpoints.resume(0 if recovered.lanes is None else recovered.lanes.position, recovered.pairs())
        timeline = stream._pipeline.recorder.timeline
        deliveries = Deliveries(stream, journal, timeline, checkpoints)
        point = point_in(recovered, mode)
        # The core starts after the journaled batches of each rank. Without ranks, the stream itself skips the taken
        # ones.
        had = [recovered.count_of(rank, mode.num_ranks) for rank in range(mode.num_ranks)]
        opened = recovered.epoch > 0 or bool(recovered.taken)
        core = Core(rules, deliveries, epoch=recovered.epoch, had=had, frontier=point.position, has_opened=opened)
        admission = Admission(core, journal, self._job, self._welcome, stream.ring_fd, deliveries.journal_taken)
        loop = Loop(claim, self._uids, core, deliveries, admission)
        awaited = [(survivor, recovered.taken.get(who, ())) for who, survivor in recovered.survivors.items()]
        admission.await_survivors(awaited, loop.handlers, rules.grace_s)
        loop.start()
        return loop

    def stop(self, timeout: float | None = None) -> None:
        """Notify all consumers, stop the workers and release the name; idempotent, from any thread.

        Args:
            timeout: Maximum number of seconds to wait for the workers. None: no limit.

        Raises:
            StopTimeout: A worker was still running after the timeout.
            ServiceStateError: Code of the source that the server runs has called this method, such as its
                ``on_epoch_end``; the server keeps running.
            TypeError: ``timeout`` is not a number; the server keeps running.
            ValueError: ``timeout`` is NaN; the server keeps running.
        """
        timeout = checked_wait(timeout)
        loop = self._loop
        if loop is None:
            return
        loop.check_caller("stop")
        # Stop the loop before the stream: the loop's thread uses the stream. Join without the lock, so that several
        # threads can call this method.
        loop.stop()
        with self._lock:
            if self._loop is not loop:  # another thread has stopped the server
                return
            # A failing worker must not keep the name in use. The exit stack releases the rest even after an exception:
            # the journal, and the name last. Signals are deferred, because a handler that raised between the first line
            # and the exit stack would leave all of it to no one. The waits for functions of the user allow them.
            with defer_signals():
                # Keep the final counters for `statistics` after the stop.
                self._latest, self._loop = self.statistics(), None
                with self._undo:
                    self._stream.stop(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; return False if it is still running after ``timeout`` seconds.

        Args:
            timeout: Maximum number of seconds to wait. None: no limit.

        Raises:
            ServiceStateError: The server is not running.
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is NaN.
            Exception: The exception that ended the server, if it was not `stop`.
        """
        timeout = checked_wait(timeout)
        loop = self._loop
        if loop is None:
            raise ServiceStateError(f"the server {self.name!r} is not running: call start() before wait()")
        loop.check_caller("wait")
        loop.thread.join(timeout)
        if loop.failure is not None:
            raise loop.failure
        return not loop.thread.is_alive()

    def disown(self) -> None:
        """Make `stop` a no-op in a forked child: the thread is the parent's, and the lock may be held forever."""
        self._loop, self._lock, self._is_entered = None, RLock(), False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Server cannot be pickled or sent to another process: its workers and its name belong to this process. "
            f"Use mpqueue.attach({self.name!r}) in the other process"
        )

    def statistics(self) -> "ServerStatistics":
        """Return the counters of the server and of its consumers; after `stop`, the final ones."""
        loop = self._loop
        if loop is None:
            return self._latest
        # Copy the dict in one step: the server's thread changes it without a lock.
        return statistics_of(self._stream.statistics(), loop.core, dict(loop.consumers.peers))

    def _welcome(self, seat: Seat) -> Welcome:
        rules, ring = self._rules, self._stream.slots.ring
        assert ring is not None
        return Welcome(
            name=self.name,
            mode=rules.mode.name,
            world=rules.mode.world,
            job=self._job,
            length=self._length(),
            epoch=seat.epoch,
            segment_bytes=ring.segment.size,
            stride=ring.stride,
            pid=os.getpid(),
        )

    def _length(self) -> int | None:
        """Return the number of batches per epoch for each consumer; None if it is unknown."""
        total = self._stream.length()
        return None if total is None else self._rules.mode.length(total)

    @property
    def _is_started(self) -> bool:
        return self._loop is not None

    def __enter__(self) -> Self:
        # As for `multiprocessing.managers.BaseManager`: `with` starts a new server, and accepts a running one. Not one
        # that another `with` has entered, which would find it stopped: `start` raises an error.
        with self._lock:
            if self._is_entered or not self._is_started:
                self.start()
            self._is_entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_entered = False
        self.stop()

    def __repr__(self) -> str:
        loop = self._loop
        state = "stopped" if loop is None else count_text(len(loop.core.group.by_consumer), "consumer")
        return f"<Server {self.name!r}, {self._rules.mode.name}, {state}>"


def _checked_uids(uids: Any) -> frozenset[int]:
    if not isinstance(uids, Iterable):
        raise TypeError(f"allow_uids must be a list of integer user ids, got {uids!r}")
    return frozenset(checked_uid("each of allow_uids", uid) for uid in uids)
