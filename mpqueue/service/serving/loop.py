"""The server's thread: waits for all events at once, and carries out the decisions of the core.

    listening socket --> reception --> attach ---+
    consumers' sockets --> requests -------------+--> core --> Deliveries --> flush
    pidfds of their processes --> exits ---------+
    the workers' poller --> advance, take -------+
    wake-up pipe --> stop

The thread never blocks on a consumer or worker: sockets are non-blocking, and data that a socket does not accept is
sent later. It sleeps in a single `poll` until an event or the next deadline. An idle server uses no CPU.
"""

import math
import threading
import time

from mpqueue.errors import ServiceStateError
from mpqueue.service.protocol.server_directory import Claim
from mpqueue.service.routing.core import Core
from mpqueue.service.serving.admission import Admission
from mpqueue.service.serving.connections import Handlers
from mpqueue.service.serving.consumers import Consumers
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.system.log import warn
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.joined_threads import JoinedThread
from mpqueue.system.user_code.exception_texts import named_text_of

_clock = time.monotonic


class Loop:
    """The thread of a server, and the objects that it uses between start and stop.

    Args:
        claim: The name and the listening socket.
        uids: The users who may attach in addition to this user.
        core: The core.
        deliveries: The core's outside, with the running stream.
        admission: Assigns seats.

    Attributes:
        core: The argument.
        consumers: The consumers.
        thread: The thread.
        failure: The exception that ended the loop; None if it was stopped.
        handlers: The handlers of all descriptors.
    """

    def __init__(
        self,
        claim: Claim,
        uids: frozenset[int],
        core: Core,
        deliveries: Deliveries,
        admission: Admission,
    ) -> None:
        self._claim, self.core, self._deliveries = claim, core, deliveries
        self._stream, self._admission = deliveries.stream, admission
        self.thread = JoinedThread(self.run, "mpqueue-server")
        self.failure: BaseException | None = None
        self._is_stopping = False
        self._stop_text = "the server was stopped"
        self._wakeup = Wakeup()
        try:
            self.handlers = Handlers()
        except BaseException:
            self._wakeup.close()
            raise
        self.handlers.watch(self._wakeup.fd, self._wakeup.clear)
        # Whether workers have sent reports, and when the stream needs attention without a report.
        self._has_reports, self._look_at = True, 0.0
        self.handlers.watch(self._stream.fileno(), self._note_reports)
        self.consumers = Consumers(core, deliveries, admission, self.handlers, claim.listener, uids)
        self._reception = self.consumers.reception

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: The system cannot start another thread.
        """
        try:
            self.thread.start()
        except BaseException:
            self.close()  # otherwise `run` closes the loop
            raise

    def stop(self) -> None:
        """Make `run` return, and wait for it; from any other thread."""
        self._is_stopping = True
        self._wakeup.wake()
        self.thread.join()

    def check_caller(self, method: str) -> None:
        """Raise a `ServiceStateError` in the server's own thread, which would wait for itself forever."""
        if threading.get_ident() == self.thread.ident:
            raise ServiceStateError(
                "the server runs this code of the source (such as on_epoch_end) in its own thread, and "
                f"{method}() would wait for it to end: call the method in another thread"
            )

    def run(self) -> None:
        """Serve until `stop`, then notify all consumers."""
        try:
            while not self._is_stopping:
                self._feed()
                # After the feed, which has sent all offers: no `RECALL` may overtake one. It may have read requests
                # that allow further offers: do not wait before they are processed.
                if not self.consumers.recall(_clock()):
                    self.handlers.wait(self._timeout_s())
        except BaseException as error:
            # Any failure ends the server: consumers get the reason, and can attach to a restarted server, instead of
            # waiting for batches that never arrive.
            self.failure, self._stop_text = error, f"the server failed: {named_text_of(error)}"
            warn(f"{self._claim.directory.name!r}: {self._stop_text}")
        finally:
            self.close()

    def _feed(self) -> None:
        """Pass new events and the time to the core, and send its decisions."""
        stream, core, consumers, now = self._stream, self.core, self.consumers, _clock()
        # Without reports from the workers, skip `advance`: it would cost a system call for each request of a consumer.
        if self._has_reports or now >= self._look_at:
            self._has_reports = False
            stream.advance()
        reception, admission = self._reception, self._admission
        # Check the conditions here: both are rare, and each batch passes here.
        if reception.strangers or reception.again_at is not None:
            reception.look(now)
        if admission.sentinels:
            admission.look(now, self.handlers)
        consumers.settle_all()
        core.advance(now)
        if core.rules.lease_timeout is not None:
            # This process may have been suspended or busy, with requests of the consumers still unread. Read them
            # before deciding that a consumer is silent.
            consumers.read_all(core.patience.silent(now))
            consumers.detach(core.patience.silent(now))
        self._take()
        # Only after `_take` has routed all available batches, and only if the ring is full: until then a slow consumer
        # delays no one else.
        if (
            core.rules.slow == "detach"
            and not core.wants_batch()
            and stream.is_full
            and (slow := core.patience.slow(core.epoch))
        ):
            consumers.detach(slow)
            self._take()
        if admission.waiting:
            consumers.seat_waiting()  # the seat of a detached rank may be free
        # Flush once, at the end: several offers make one message, and wake the consumer once.
        for peer in self._deliveries.flush():
            if peer.sock is not None:
                self.handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)

    def _take(self) -> None:
        """Pass all ready batches that have a receiver to the core."""
        stream, core = self._stream, self.core
        # Evaluate the conditions for each batch: a routed one may fill the last window or end the last wait.
        while True:
            may_fail = core.group.is_starving() and not self.consumers.may_release()
            outcome = stream.take(may_fail=may_fail) if core.wants_batch() else None
            if outcome is not None:
                core.arrived(outcome)
            elif not stream.has_ended or not core.wants_end():
                return
            else:
                core.ended()

    def _timeout_s(self) -> float | None:
        core, reception, now = self.core, self._reception, _clock()
        dues = [core.patience.due_at(now)]
        # Every wait computes this, so avoid calls for absent strangers and survivors.
        if reception.strangers or reception.again_at is not None:
            dues.append(reception.due_at())
        if core.awaited:
            dues.append(self._admission.due_at())
        waits = [max(0.0, due - now) for due in dues if due is not None]
        if self.consumers.recall_at < math.inf:
            waits.append(max(0.0, self.consumers.recall_at - now))
        in_stream = self._stream.timeout_s()
        self._look_at = math.inf if in_stream is None else now + in_stream
        return min(waits if in_stream is None else [*waits, in_stream], default=None)

    def _note_reports(self) -> None:
        self._has_reports = True

    def close(self) -> None:
        """Notify all consumers and close all connections; after a failure also release the name.

        `run` calls this when it returns. Call it if `run` was never called. The stream belongs to the server.
        """
        self.consumers.close(self._stop_text)
        self.handlers.close()
        self._wakeup.close()
        # After a failure no thread answers connections: consumers that attach would wait in the kernel's queue forever.
        if self.failure is not None:
            self._claim.close()
