"""Waiting for shared memory: who waits for whom, and who waits in vain.

A producer asks for empty blocks, mostly ahead of its need: then it gets what there is, perhaps nothing, and no more
than its part of what is free, since it may fall idle with it. If it cannot go on without them it stands in a line here,
and tries again whenever blocks come free. It waits for as long as somebody can free some without it: a consumer that
takes elements out or reads what it took, a producer that was granted a block and has not enqueued yet (its element will
be taken out). It gets `SharedMemoryFull` at once

* if all the memory there is would not do;
* if all blocks in use lie where only those who wait could set them free: in queues whose consumers wait for more
  elements, in elements that are written by half, and in the hands of producers that are idle; or where they may stay
  for ever: in elements that a thread of the owner looks at in their places.

Those who stand in the line give back what they were granted ahead, of other sizes.
"""

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from mpqueue.errors import SharedMemoryFull
from mpqueue.tf1.queues.arena import class_bytes
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client, PendingGrant, SharedQueue
from mpqueue.tf1.queues.wire import WITHDRAWN, Down, put_last


class Demand(NamedTuple):
    """A call that cannot go on.

    Attributes:
        client: The caller.
        number: The call's number.
        queue: The number of the queue that the call is about to enqueue into.
        size_class: The class of the blocks.
        num_wanted: Number of blocks that it would like.
        num_needed: Number of blocks that it cannot do without, with those that it has.
    """

    client: Client
    number: int
    queue: int
    size_class: int
    num_wanted: int
    num_needed: int


class Shortage:
    """The line of those who wait for blocks of one owner. Under the hub's lock.

    Args:
        pool: The blocks.
        clients: All connections, by number.
        queues: All queues, by number.

    Attributes:
        demands: Those who wait, in line.
    """

    def __init__(self, pool: BlockPool, clients: Mapping[int, Client], queues: Mapping[int, SharedQueue]) -> None:
        self._pool, self._clients, self._queues = pool, clients, queues
        self.demands: list[Demand] = []

    def want(self, client: Client, size_class: int, queue: int, number: int, count: int, num_needed: int) -> None:
        """Grant blocks, now or when there are some; at once, and perhaps none, if none is needed yet."""
        self._pool.arena.num_users = 1 + len(self._clients)
        if num_needed:
            self.demands.append(Demand(client, number, queue, size_class, count, num_needed))
            self.relieve()
            return
        self._pool.collect()
        # Who only asks ahead gets nothing while others cannot go on; nobody waits for this answer's blocks.
        try:
            is_fair = not self.demands and self._is_fair(client, size_class, count)
            tokens = self._pool.arena.take(size_class, count) if is_fair else []
        except SharedMemoryFull:
            tokens = []
        _grant(client, number, size_class, tokens)

    def relieve(self) -> None:
        """Serve those who wait, as far as there are blocks, and send away those who would wait for ever."""
        self._pool.collect()
        for demand in list(self.demands):
            error = self._serve(demand)
            # Blocks that those in line were granted ahead are of no use to anybody while they wait.
            if error is not None and self._revoke():
                error = self._serve(demand)
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
            # As many as it would like, so that it need not ask again soon; else what it cannot do without.
            try:
                tokens = arena.take(demand.size_class, max(missing, wanted))
            except SharedMemoryFull:
                tokens = arena.take(demand.size_class, missing, is_last_resort=is_last_resort)
        except SharedMemoryFull as error:
            return error
        self.demands.remove(demand)
        # Until it has enqueued, its element is still to come, and to be taken out: others may wait for that.
        use = demand.client.uses.get(demand.queue)
        demand.client.pending_grant = None if use is None else PendingGrant(use.producer, use.producer.received)
        _grant(demand.client, demand.number, demand.size_class, tokens)
        return None

    def _is_fair(self, client: Client, size_class: int, count: int) -> bool:
        """True if a client may be granted so many blocks ahead: others, and one who comes, must do with the rest."""
        num_granted = len(client.granted.get(size_class, ())) + count
        return self._pool.arena.has_room((len(self._clients) + 1) * num_granted * class_bytes(size_class))

    def _revoke(self) -> bool:
        """Take back the empty blocks of those who wait: until they are answered they use none."""
        clients = {demand.client for demand in self.demands if demand.client.num_granted}
        for client in clients:
            for tokens in client.granted.values():
                self._pool.arena.give([*tokens])
                tokens.clear()
            client.answers.send(Down.REVOKED, 0)
        return bool(clients)

    def withdraw(self, client: Client, number: int) -> bool:
        """End a call; False if it does not wait here."""
        for demand in self.demands:
            if demand.client is client and demand.number == number:
                self.demands.remove(demand)
                client.answers.fail(number, WITHDRAWN)
                return True
        return False

    def forget(self, client: Client) -> None:
        """A client is gone."""
        self.demands = [demand for demand in self.demands if demand.client is not client]

    def _may_be_met(self, demand: Demand) -> bool:
        arena = self._pool.arena
        available = arena.segment.available_bytes()
        # More than there would be with every block free.
        if demand.num_needed * class_bytes(demand.size_class) > available + arena.num_reserved_bytes:
            return False
        # Counted are the blocks that only those in line could set free, or perhaps nobody will; by any other one in use
        # somebody can go on, who then frees it.
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
    client.answers.send(Down.BLOCKS, number, size_class, 0, array("q", tokens).tobytes())
