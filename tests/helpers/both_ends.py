"""Both ends of a connection, and the messages that one end received from the other."""

from mpqueue.transport.framing import Incoming, Outgoing
from mpqueue.transport.records import ProtocolError, RecordType

HEAD = RecordType("kind:B key:I nbytes:Q", kinds=(1, 2))


class Both:
    """A pair of ends that receive messages of kind 1 as bytes, and messages of kind 2 into a view."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.received = []
        for end in (ours, theirs):
            end.setblocking(False)
        self.outgoing, self.incoming = Outgoing(ours), Incoming(theirs, self._messages())

    def _messages(self):
        while True:
            kind, key, nbytes = HEAD.parse((yield HEAD.size))
            if kind == 1:
                self.received.append((kind, key, (yield nbytes)))
            else:
                if nbytes > 1 << 24:  # damaged: the view would never be filled
                    raise ProtocolError("too much")
                view = memoryview(bytearray(nbytes))
                yield view
                self.received.append((kind, key, bytes(view)))

    def put(self, kind, key, payload):
        self.outgoing.put(HEAD.pack(kind, key, len(payload)), payload)

    def carry(self):
        """Transfer all pending bytes."""
        is_open = True
        while not self.outgoing.flush() and is_open:
            is_open = self.incoming.take()
        self.incoming.take()

    def close(self):
        self.ours.close()
        self.theirs.close()
