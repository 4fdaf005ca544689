"""Tells those who greet a server for its queues where these are; the first of them has the server make their home."""

import os

from mpqueue.service.connections import Peer, Reception
from mpqueue.service.greeting import Welcome
from mpqueue.service.home import Home
from mpqueue.tf1.queues.host import QueueHost


class QueueDesk:
    """See the module's head. Used by the server's thread, but for `close`.

    Args:
        home: Of the server, which has claimed it.

    Attributes:
        host: The home of the queues; None: nobody has asked for it.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self.host: QueueHost | None = None

    def answer(self, peer: Peer, reception: Reception) -> None:
        """Tell a stranger, and end its connection."""
        uid = peer.credentials.uid
        if uid not in (os.geteuid(), 0):
            # Elements lie in memory that all who are connected can write to.
            reception.refuse(peer, f"uid {uid} may not use the queues of uid {os.geteuid()}: they are its own")
            return
        try:
            if self.host is None:
                self.host = QueueHost(self._home.folder)
        except OSError as error:
            reception.refuse(peer, f"there is no room for queues: {error}")
            return
        welcome = Welcome(
            name=self._home.name, mode=None, world=None, job="", length=None, epoch=0, window=0, segment_bytes=0,
            stride=0, uid=os.geteuid(), pid=os.getpid(), queues=self.host.place,
            queues_token=self.host.address.token.hex(),
        )  # fmt: skip
        peer.send_now(welcome.encode())
        reception.drop(peer)

    def close(self) -> None:
        """End all queues, if the server's thread has ended."""
        if self.host is not None:
            self.host.stop()
