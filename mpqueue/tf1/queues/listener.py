"""The connections to one owner: accepted, answered, and noticed when they end.

who has proven to have the token (see `Door`) --> a `Client`: told its number, given the memory and the pipe
"""

import socket
from functools import partial

from mpqueue.engine import queue_address
from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Answers, Client
from mpqueue.tf1.queues.wire import HEAD, Down, RecordPipe
from mpqueue.transport.credentials import credentials_of
from mpqueue.transport.listener import Door
from mpqueue.transport.poller import READABLE, WRITABLE, Poller


class Listener:
    """Accepts connections and keeps them. Under the hub's lock.

    Args:
        poller: Waits for them.
        path: The path of the socket, in a folder of the caller's; None: where nobody else has one.

    Attributes:
        address: The address at which it listens.
        clients: All connections, by number.
    """

    def __init__(self, poller: Poller, path: str | None = None) -> None:
        self._poller, self._door = poller, Door(poller, path)
        self.address = self._door.address
        self.clients: dict[int, Client] = {}
        self._by_fd: dict[int, Client] = {}
        self._last_number = 0

    def _welcome(self, sock: socket.socket, pool: BlockPool, pipe: RecordPipe) -> None:
        """Tell a client its number, and give it the memory and the pipe."""
        peer = credentials_of(sock).pid
        queue_address.users.add(peer)
        self._last_number += 1
        client = Client(self._last_number, peer, Answers(sock, partial(self._wait_for_room, sock)))
        hello = HEAD.pack(Down.HELLO, client.number, pool.arena.segment.size, pipe.mark, 0)
        try:
            socket.send_fds(sock, [hello], [pipe.write_fd, pool.arena.segment.fd])
        except OSError:
            self._poller.unregister(sock.fileno())
            client.close()
            return
        self.clients[client.number] = self._by_fd[sock.fileno()] = client

    def _wait_for_room(self, sock: socket.socket) -> None:
        self._poller.modify(sock.fileno(), READABLE | WRITABLE)

    def attend(self, fd: int, event: int, pool: BlockPool, pipe: RecordPipe) -> Client | None:
        """See to the connection of a descriptor that is ready; the client, if it has ended.

        Args:
            fd: The descriptor.
            event: For what it is ready.
            pool: The memory that a new client gets,
            pipe: and the pipe.
        """
        if self._door.is_mine(fd):
            with defer_signals():  # what an interrupt made of a proof, its sender would wait for for ever
                sock = self._door.attend(fd)
                if sock is not None:
                    self._welcome(sock, pool, pipe)
            return None
        client = self._by_fd.get(fd)
        if client is None:
            return None
        sock = client.answers.sock
        if event & ~WRITABLE:
            if _has_data(sock):
                client.cut("it wrote to the socket on which it is answered")
            del self.clients[client.number], self._by_fd[fd]
            self._poller.unregister(fd)
            client.close()
            return client
        if client.answers.flush():
            self._poller.modify(fd, READABLE)
        return None

    def close(self) -> None:
        """End all connections, and accept no more."""
        for client in list(self.clients.values()):
            client.close()
        self.clients.clear()
        self._by_fd.clear()
        self._door.close()


def _has_data(sock: socket.socket) -> bool:
    """True if there is something to read; False at the end."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
