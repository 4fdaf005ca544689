"""`Dealing`: stops the dealing of work items, waits for the running ones, and continues."""

from mpqueue.engine.guard import Guard, locked


class Dealing:
    """The dealing of work items of one pipeline.

    Args:
        guard: The lock around the ledger and the backend.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard, self._ledger = guard, guard.ledger

    def pause(self, *, waits: bool = True) -> None:
        """Deal no work items until `resume`, and wait for the running ones; ready outcomes remain.

        Args:
            waits: If False, return while work items are running.
        """
        with self.guard.lock:
            self._ledger.pause()
        if waits:
            self._await_running()

    def await_first_elements(self) -> None:
        """Wait until each lane has computed its first element, or no more can be computed before a batch is taken."""
        self._await_running(first_elements=True)

    def _await_running(self, *, first_elements: bool = False) -> None:
        guard = self.guard
        while (head := self._oldest_running(first_elements=first_elements)) is not None:
            with guard.lock:  # not `locked`: a wait does not change the run
                if not guard.is_stopped:
                    timeout_s = guard.timeout_s()
                    if head in self._ledger.at_work():
                        guard.backend.wait(head, timeout_s)

    @locked
    def _oldest_running(self, *, first_elements: bool = False) -> int | None:
        """Process arrived reports; return the oldest running work item, which is the one a `batch_timeout` can end.

        Args:
            first_elements: Consider only the first element of each lane, unless it may wait for room.
        """
        # Called before each wait: in the meantime another thread may take a batch, stop, or go to another position.
        guard, ledger = self.guard, self._ledger
        while not guard.is_stopped and ledger.failure is None and (at_work := ledger.at_work()):
            if first_elements:
                at_work = {work_id for work_id in at_work if not ledger.work_items[work_id].source_index}
                if not at_work or guard.backend.has_waiting:
                    break
            head = min(at_work)
            if not guard.backend.take_in(head):
                return head
        return None

    @locked
    def resume(self) -> None:
        """Continue after a `pause`, with the full credit."""
        self._ledger.resume()
        self._ledger.needs_attention = True  # settles the times of this start
        if not self.guard.is_stopped:
            self.guard.backend.pump()
