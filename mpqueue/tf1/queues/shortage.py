"""Waiting for shared memory: the queue of producers that need blocks, and the detection of waits that cannot end.

A producer usually requests empty blocks ahead of its need. Then it receives its share of the free blocks at once, or
none. If a producer cannot continue without blocks, its demand waits here and is retried whenever blocks are freed. It
waits as long as another process can free blocks without it: a consumer that dequeues or reads elements, or a producer
that was granted a block and will enqueue its element.

The producer receives `SharedMemoryFull` at once

* if the request exceeds the total memory, or
* if only waiting producers could free the blocks in use. Such blocks are in queues with consumers that wait for more
  elements, in half-written calls, and in the grants of idle producers; or they are held by views in a thread of the
  owner, for an unknown time.

Waiting producers first return blocks of other sizes that they were granted ahead.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mpqueue.errors import CancelledError, SharedMemoryFull
from mpqueue.tf1.queues.arena import class_bytes
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client, PendingGrant, SharedQueue
from mpqueue.tf1.queues.wire import WITHDRAWN, Down, put_last


class Demand(NamedTuple):
    """A producer's call that waits for blocks.

    Attributes:
        client: The producer's connection.
        number: Number of the call.
        queue: Number of the queue that the call will enqueue into.
        size_class: Size class of the blocks.
        num_wanted: Preferred number of blocks.
        num_needed: Minimum number of blocks, including blocks that it was granted before.
    """

    client: Client
    number: int
    queue: int
    size_class: int
    num_wanted: int
    num_needed: int


class Shortage:
    """The demands that wait for blocks of one owner. Call the methods under the hub's lock.

    Args:
        pool: Allocator of the blocks.
        clients: All connections, by number.
        queues: All queues, by number.

    Attributes:
        demands: The waiting demands, in order of arrival.
    """

    def __init__(self, pool: BlockPool, clients: Mapping[int, Client], queues: Mapping[int, SharedQueue]) -> None:
        self._pool, self._clients, self._queues = pool, clients, queues
        self.demands: list[Demand] = []

    def want(self, client: Client, size_class: int, queue: int, number: int, count: int, num_needed: int) -> None:
        """Grant blocks to a producer, now or when blocks become free.

        Args:
            client: The producer's connection.
            size_class: Size class of the blocks.
            queue: Number of the queue that the producer will enqueue into.
            number: Number of the call.
            count: Preferred number of blocks.
            num_needed: Minimum number of blocks. With 0, the answer is immediate and may grant no block.
        """
        self._pool.arena.num_users = 1 + len(self._clients)
        if num_needed:
            self.demands.append(Demand(client, number, queue, size_class, count, num_needed))
            self.relieve()
            return
        self._pool.collect()
        # A request ahead of need gets no blocks while a demand waits: the producer does not depend on this answer, and
        # might become idle with the blocks.
        try:
            is_fair = not self.demands and self._is_fair(client, size_class, count)
            tokens = self._pool.arena.take(size_class, count) if is_fair else []
        except SharedMemoryFull:
            tokens = []
        _grant(client, number, size_class, tokens)

    def relieve(self) -> None:
        """Serve the waiting demands while blocks are free, and fail demands that would wait forever."""
        self._pool.collect()
        for demand in list(self.demands):
            error = self._serve(demand)
            # Blocks that waiting producers were granted ahead, of other sizes, are unused while they wait.
            if error is not None and self._revoke():
                error = self._serve(demand)
            # Without this check, a producer would hang if only it and other waiting producers can free memory. Before
            # it fails, it may use the reserve of a control group.
            if error is not None and not self._may_be_met(demand):
                error = self._serve(demand, is_last_resort=True)
                if error is None:
                    continue
                self.demands.remove(demand)
                demand.client.answers.fail(demand.number, error)

    def _serve(self, demand: Demand, *, is_last_resort: bool = False) -> SharedMemoryFull | None:
        arena, granted = self._pool.arena, demand.client.granted.get(demand.size_class, ())
        missing = max(1, demand.num_needed - len(granted))
        wanted = demand.num_wanted if self._is_fair(demand.client, demand.size_class, demand.num_wanted) else 0
        try:
            # Preferably all wanted blocks, so that the producer need not request more soon; otherwise the minimum.
            try:
                tokens = arena.take(demand.size_class, max(missing, wanted))
            except SharedMemoryFull:
                tokens = arena.take(demand.size_class, missing, is_last_resort=is_last_resort)
        except SharedMemoryFull as error:
            return error
        self.demands.remove(demand)
        # The producer's element is still to be enqueued and dequeued, which will free a block: others may wait for it.
        use = demand.client.uses.get(demand.queue)
        demand.client.pending_grant = None if use is None else PendingGrant(use.producer, use.producer.received)
        _grant(demand.client, demand.number, demand.size_class, tokens)
        return None

    def _is_fair(self, client: Client, size_class: int, count: int) -> bool:
        """Return whether a client may be granted ``count`` more blocks ahead of its need.

        All clients, and one more that may connect, must be able to get as many. A client may become idle with its
        blocks, which no other process can use then.
        """
        num_granted = len(client.granted.get(size_class, ())) + count
        return self._pool.arena.has_room((len(self._clients) + 1) * num_granted * class_bytes(size_class))

    def _revoke(self) -> bool:
        """Take back the empty blocks of waiting producers, which use none until they are answered."""
        clients = {demand.client for demand in self.demands if demand.client.num_granted}
        for client in clients:
            for tokens in client.granted.values():
                self._pool.arena.give([*tokens])
                tokens.clear()
            # The client discards its copy of the list when it reads this, before it reads its next grant.
            client.answers.send(Down.REVOKED, 0)
        return bool(clients)

    def withdraw(self, client: Client, number: int) -> bool:
        """End a call with `WITHDRAWN`; return False if it does not wait here."""
        for demand in self.demands:
            if demand.client is client and demand.number == number:
                self.demands.remove(demand)
                client.answers.fail(number, WITHDRAWN)
                return True
        return False

    def cancel(self, queue: SharedQueue) -> None:
        """Cancel the calls that wait to enqueue into a queue, which was closed with ``cancel_pending_enqueues``."""
        # They have not reached the machine, which cancels the others. Without this step, they would wait until a
        # consumer frees memory, and a closed queue may have no consumer.
        for demand in [one for one in self.demands if one.queue == queue.number]:
            self.demands.remove(demand)
            text = f"Queue {queue.machine.name!r} was closed and pending enqueues were cancelled."
            demand.client.answers.fail(demand.number, CancelledError(None, None, text))

    def forget(self, client: Client) -> None:
        """Remove the demands of a closed connection."""
        self.demands = [demand for demand in self.demands if demand.client is not client]

    def _may_be_met(self, demand: Demand) -> bool:
        arena = self._pool.arena
        available = arena.segment.available_bytes()
        # The demand exceeds the memory even if every block were free.
        if demand.num_needed * class_bytes(demand.size_class) > available + arena.num_reserved_bytes:
            return False
        # Count the blocks that only waiting producers could free, or that may never be freed. Each other block in use
        # belongs to a process that can continue, and will free it.
        waiting = {one.client for one in self.demands}
        stuck = sum(queue.num_stuck for queue in self._queues.values())
        stuck += self._pool.num_word_blocks + self._pool.holds.num_live
        for client in self._clients.values():
            stuck += client.num_kept
            if client in waiting:
                stuck += len(client.filled)
            elif not client.is_to_enqueue:
                stuck += client.num_granted
        return arena.num_used > stuck


def _grant(client: Client, number: int, size_class: int, tokens: list[int]) -> None:
    put_last(client.granted.setdefault(size_class, []), tokens)
    # 6 us for 512 blocks. `array` takes 11 us.
    client.answers.send(Down.BLOCKS, number, size_class, 0, np.array(tokens, np.int64).tobytes())
