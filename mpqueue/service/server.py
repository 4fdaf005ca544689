"""`Server`: one preparation of batches for many consumers in other processes of this host.

Who owns what: the server owns the name (a `Claim`), the stream (ring, workers), the connections, and one thread, the
`Loop`, that touches all of them between `start` and `stop`. What is counted for `statistics` is read by other threads
without a lock.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Literal, Self

from mpqueue.errors import ServiceError
from mpqueue.monitor import registry
from mpqueue.options import DEFAULT_START_METHOD, OnError, Options, SampleOptions, StartMethod
from mpqueue.service.admission import Admission
from mpqueue.service.core import Core
from mpqueue.service.deliveries import Deliveries, state_of
from mpqueue.service.greeting import Welcome
from mpqueue.service.home import Claim, Home
from mpqueue.service.journal import Journal, Recovered, place_in, read_journal
from mpqueue.service.loop import Loop
from mpqueue.service.peer import Peer
from mpqueue.service.queue_desk import QueueDesk
from mpqueue.service.queue_server import QueueServer
from mpqueue.service.reports import ServerStatistics, statistics_of
from mpqueue.service.rules import Rules, Slow, check_rules
from mpqueue.service.seats import Seat
from mpqueue.service.stream import Stream
from mpqueue.sources import epoch_end_of
from mpqueue.system.cpus import num_cpus
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.telemetry import live


class Server:
    """Serves the batches of a source to the consumers that `mpqueue.attach` to it.

    ```python
    with mpqueue.Server("photos", source, mode="split", world=4, workers=8, shuffle=True) as server:
        server.wait()
    ```

    Args:
        name: By which consumers find it; or the path of a folder, with a slash in it.
        source: As of a `mpqueue.Loader`. None: a server of queues only (`mpqueue.connect`), which has no options.
        mode: "split": each batch to one consumer; "broadcast": each batch to all, computed once.
        world: With "split" the number of ranks: batch i goes to rank i mod world, and all get equally many. With
            "broadcast" the number of consumers that the first epoch waits for. None: batches go to whoever asks first;
            an epoch begins with the consumers that are there.
        slow: What becomes of a consumer that others wait for: "wait", they wait; "skip" (broadcast), it misses
            batches, counted; "detach" (without ranks), it is cut off.
        grace_s: Seconds for which the place of a rank that died waits for another consumer of this rank.
        lease_timeout: Seconds after which a consumer that has batches and says nothing is cut off; None: never.
        journal: Path of a file in which is written what was taken, so that a server that dies can be started again,
            and goes on there. Each consumer is offered one batch at a time then.
        allow_uids: Users who may attach beside this one.
        workers: Worker processes; None: one per CPU that this process may use.
        max_queue_size: Batches computed ahead; each consumer is offered as many.
        shuffle, batch_size, collate, drop_last, sampler, batch_sampler, on_error, max_errors, seed, ordered,
            start_method, restarts, batch_timeout, worker_init, max_batch_bytes, trace, ray_options: As of a
            `mpqueue.Loader`.
        backend: "process", or "ray": the workers are on the nodes of a Ray cluster.

    Attributes:
        name: As given.
        folder: Where it lives: containers mount this.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value, excludes another one, or means nothing to a server.
    """

    _job: str  # a hash of what makes the stream the same one; from `start` on

    def __new__(cls, name: str, source: Any, **options: Any) -> Self:
        """A server of queues only is a `QueueServer`, which is started, stopped and waited for alike."""
        if source is not None:
            return super().__new__(cls)
        if options:
            raise ValueError(f"a server of queues only (source=None) has no options, got {', '.join(sorted(options))}")
        return QueueServer(name)  # type: ignore[return-value]  # its own constructor only is called

    def __init__(
        self,
        name: str,
        source: Any,
        *,
        mode: Literal["split", "broadcast"] = "split",
        world: int | None = None,
        slow: Slow = "wait",
        grace_s: float = 60.0,
        lease_timeout: float | None = None,
        journal: str | os.PathLike[str] | None = None,
        allow_uids: Iterable[int] = (),
        workers: int | None = None,
        max_queue_size: int = 10,
        shuffle: bool = False,
        batch_size: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        on_error: OnError = "raise",
        max_errors: int | None = None,
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        arguments, self._home = locals(), Home.of(name)
        self.name, self.folder = self._home.name, self._home.folder
        self._journal_path = None if journal is None else os.fspath(journal)
        window = max_queue_size if journal is None else 1  # or more would be out of which nobody knows what was taken
        self._rules = check_rules(
            mode=mode, world=world, slow=slow, grace_s=grace_s, lease_timeout=lease_timeout, window=window
        )
        self._uids = frozenset(map(int, allow_uids))
        arguments |= {"workers": num_cpus() if workers is None else workers}
        arguments |= {"world": (self._rules.world or 1) if self._rules.is_ranked else 1}
        self._make_stream = partial(Stream, source, **unknown, **_stream_options(arguments))
        self._stream = self._make_stream()
        self._settle_rules(is_ordered=bool(ordered))
        self._run: _Run | None = None
        self._latest = ServerStatistics()
        self._lock = threading.RLock()

    def _settle_rules(self, *, is_ordered: bool) -> None:
        """Enter into the rules what follows from the stream."""
        if self._journal_path is not None:
            _check_restartable(self._stream, is_ordered=is_ordered)
        is_stream = self._stream.is_generator
        self._rules = replace(self._rules, can_replay=not is_stream and is_ordered, is_ordered=is_stream or is_ordered)

    def start(self) -> Self:
        """Take the name, start the workers, and serve; returns when consumers can attach.

        Raises:
            ServiceError: The name is taken; or the folder cannot be had; or the journal is of another stream.
            RuntimeError: It runs already.
            OSError: There are not enough processes, descriptors or memory.
        """
        with self._lock:
            if self._run is not None:
                raise RuntimeError(f"the server {self.name!r} runs already: call stop() before start()")
            with contextlib.ExitStack() as undo:
                claim = self._home.claim(is_open_to_others=bool(self._uids))
                undo.callback(claim.close)
                desk = QueueDesk(self._home)
                undo.callback(desk.close)
                self._stream, recovered = self._recover()
                self._job = _job_of(self._stream, self._rules)
                journal = self._open_journal(recovered, undo)
                self._stream.start()
                undo.callback(self._stream.stop)
                self._run = self._serve(claim, desk, journal, recovered)
                self._undo = undo.pop_all()
            registry.show(self, is_quiet=True)
            live.add(self, "Server")
        return self

    def _recover(self) -> tuple[Stream, Recovered | None]:
        """Return the stream at its place, and what the journal says of that."""
        recovered = None if self._journal_path is None else read_journal(self._journal_path)
        if recovered is None:
            return self._make_stream(), None
        seed = recovered.seed if self._make_stream.keywords["seed"] is None else self._make_stream.keywords["seed"]
        stream = self._make_stream(seed=seed, place=place_in(recovered, broadcast=self._rules.mode == "broadcast"))
        if _job_of(stream, self._rules) != recovered.job:
            raise ServiceError(
                f"the journal {self._journal_path} is of another stream: the source, its length, the seed or an option "
                "differ. Give the same ones, or another journal"
            )
        if recovered.state is not None:
            stream.plan.job.source.load_state_dict(recovered.state)
        return stream, recovered

    def _open_journal(self, recovered: Recovered | None, undo: contextlib.ExitStack) -> Journal | None:
        if self._journal_path is None:
            return None
        journal = Journal(self._journal_path, self._job, self._stream.seed)
        undo.callback(journal.close)
        if recovered is None:
            journal.begin(0, state_of(self._stream.plan.job.source))
        else:
            if self._awaits_survivors:
                journal.await_back(recovered.survivors.values())
            journal.begin(recovered.epoch, recovered.state, recovered.pairs())
        return journal

    def _serve(self, claim: Claim, desk: QueueDesk, journal: Journal | None, recovered: Recovered | None) -> "_Run":
        """Start the thread."""
        peers: dict[int, Peer] = {}
        stream, rules, uid = self._stream, self._rules, os.geteuid()
        deliveries = Deliveries(stream, peers, journal, uid)
        if recovered is None:
            core = Core(rules, deliveries)
        else:
            place = place_in(recovered, broadcast=rules.mode == "broadcast")
            had = [recovered.count_of(rank) for rank in range(rules.world or 0)] if rules.is_ranked else ()
            core = Core(
                rules, deliveries, epoch=recovered.epoch, had=had, frontier=place.position,
                has_opened=recovered.epoch > 0 or bool(recovered.taken),
            )  # fmt: skip
        assert stream.ring is not None
        admission = Admission(core, journal, self._job, self._welcome, stream.ring.read_only_fd)
        loop = Loop(claim, self._uids | {uid}, stream, core, deliveries, admission, peers, desk)
        if recovered is not None and self._awaits_survivors:
            admission.await_survivors(recovered.survivors.values(), loop.handlers, rules.grace_s)
        run = _Run(loop, core, peers)
        run.thread.start()
        return run

    @property
    def _awaits_survivors(self) -> bool:
        """True if any other might be given what a survivor has taken; a rank, or a broadcast, goes on without it."""
        return self._rules.mode == "split" and not self._rules.is_ranked

    def stop(self, timeout: float | None = None) -> None:
        """Tell all consumers, end the workers, give up the name; idempotent, from any thread.

        Args:
            timeout: Seconds to wait for the workers at most; None: as long as it takes.

        Raises:
            StopTimeout: Some outlived the timeout.
        """
        run = self._run
        if run is None:
            return
        run.loop.stop()
        run.thread.join()
        with self._lock:
            if self._run is not run:  # another thread has stopped it
                return
            self._latest, self._run = self.statistics(), None
            registry.hide(self)
            with self._undo:
                self._stream.stop(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; return False if it has not within ``timeout`` seconds.

        Raises:
            RuntimeError: It does not run.
            Exception: What has ended it, if it was not `stop`.
        """
        run = self._run
        if run is None:
            raise RuntimeError(f"the server {self.name!r} does not run: call start() before wait()")
        run.thread.join(timeout)
        if run.loop.failure is not None:
            raise run.loop.failure
        return not run.thread.is_alive()

    def statistics(self) -> "ServerStatistics":
        """Return the counters of the server and of its consumers; after `stop` they stay as they were last."""
        run = self._run
        if run is None:
            return self._latest
        return statistics_of(self._stream.statistics(), run.core, dict(run.peers))

    def report(self) -> dict[str, Any]:
        """Return what `mpqueue top` shows of the server."""
        run, job, rules = self._run, self._stream.plan.job, self._rules
        return {
            "kind": "Server",
            "name": self.name,
            "folder": self.folder,
            "source": getattr(job.source, "__qualname__", type(job.source).__name__),
            "mode": rules.mode,
            "world": rules.world,
            "workers": job.workers,
            "backend": "process",
            "epoch": None if run is None else run.core.epoch,
            "is_running": run is not None and run.thread.is_alive(),
            "statistics": self.statistics(),
        }

    def _welcome(self, seat: Seat) -> Welcome:
        rules, ring = self._rules, self._stream.ring
        assert ring is not None
        return Welcome(
            name=self.name,
            mode=rules.mode,
            world=rules.world,
            job=self._job,
            length=self._length(),
            epoch=seat.epoch,
            window=rules.window,
            segment_bytes=ring.nbytes,
            stride=ring.stride,
            uid=os.geteuid(),
            pid=os.getpid(),
            queues=None,
        )

    def _length(self) -> int | None:
        """Return the batches of an epoch that each consumer gets; None: nobody knows."""
        total, rules = self._stream.length(), self._rules
        if total is None or (rules.mode == "split" and rules.world is None):
            return None
        return total // (rules.world or 1) if rules.is_ranked else total

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        run = self._run
        state = "stopped" if run is None else f"{len(run.core.group.by_consumer)} consumers"
        return f"<Server {self.name!r}, {self._rules.mode}, {state}>"


def _job_of(stream: Stream, rules: Rules) -> str:
    """Return a hash of what makes a stream the same one."""
    identity = [stream.seed, stream.length(), rules.mode, rules.world, repr(stream.plan.job.samples)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _stream_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments that are options of a `Stream`, but for those that mean nothing here."""
    names = {"workers", "max_queue_size", "shuffle", "world", "backend"}
    names |= {field.name for kind in (Options, SampleOptions) for field in fields(kind)}
    names -= {"copy", "monitor", "progress", "shard", "trace"}
    return {name: arguments[name] for name in names}


class _Run:
    """A server between `start` and `stop`."""

    def __init__(self, loop: Loop, core: Core, peers: dict[int, Peer]) -> None:
        self.loop, self.core, self.peers = loop, core, peers
        self.thread = JoinedThread(loop.run, "mpqueue-server")


def _check_restartable(stream: Stream, *, is_ordered: bool) -> None:
    """Raise a `ValueError` if a server that comes back could not go on with this source."""
    source = stream.plan.job.source
    if not is_ordered:
        raise ValueError(
            "a journal counts the batches of each consumer, which says nothing where they come as they are ready: "
            "leave out ordered=False, or journal"
        )
    if stream.is_generator:
        raise ValueError(
            "a journal says which batches were taken, and a generator cannot begin behind them: pass a source with "
            "__getitem__, or leave out journal"
        )
    if epoch_end_of(source) is not None and not hasattr(source, "state_dict"):
        raise ValueError(
            f"{type(source).__name__}.on_epoch_end changes the source, and a server that comes back would have it as "
            "it was at first: give it state_dict() and load_state_dict(), or leave out journal"
        )
