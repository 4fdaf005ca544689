"""`attach`: the way from the name of a server to its batches."""

import os
from typing import Literal

from mpqueue.service.attaching import open_attachment
from mpqueue.service.consumer import Consumer
from mpqueue.service.consumer_row import open_timeline
from mpqueue.service.counts import Counts
from mpqueue.service.greeting import Join
from mpqueue.service.terms import AttachTerms
from mpqueue.system.interrupts import defer_signals


def attach(
    name: str,
    *,
    rank: int | None = None,
    timeout: float | None = None,
    uid: int | None = None,
    join: Join = "next",
    reconnect: bool = False,
    writable: Literal[False, "copy"] = False,
    allow_pickle: bool | None = None,
    trace: str | os.PathLike[str] | None = None,
    monitor: bool = False,
) -> Consumer:
    """Attach to a server of this machine, and get batches from it.

    Example:
        A server, and a trainer, which would be another program::

            import mpqueue

            with mpqueue.Server("numbers", [10, 20, 30], mode="broadcast", workers=1):
                with mpqueue.attach("numbers", timeout=30) as consumer:
                    for epoch in range(2):
                        assert [int(batch) for batch in consumer] == [10, 20, 30]

    Args:
        name: Of the server, or the path of its folder (with a slash).
        rank: Which of the server's ``world`` ranks this is; None: the server has no ranks.
        timeout: Seconds to wait for a server that is not there yet, and for its answer; None: as long as it takes.
        uid: The user whose server is meant, by number. A server of any other user is refused, whoever has the name:
            None, of any other than this one, root included. By a name without a slash, and without ``MPQUEUE_HOME``, a
            server of another user is looked for in ``mpqueue-UID`` in the folder for temporary files.
        join: What a consumer gets that comes in the middle of an epoch of ``mode="broadcast"``: "next" (the next
            epoch), "now" (the rest of the running one), "replay" (all of the running one: what it has missed is
            computed again).
        reconnect: When the server dies, wait (``timeout`` seconds) for another one of its name and journal, and go on.
        writable: False: batches are read-only views of shared memory. "copy": private copies, at the time of a copy.
        allow_pickle: Unpickle what the server has pickled: objects in batches, exceptions. A pickle can run any code.
            None: if the server is of the same user.
        trace: Path of a file in which a timeline of this consumer is written, for Perfetto or Chrome: when it waits,
            and for how long it has each batch. None: ``MPQUEUE_TRACE`` says it for all of a process, or there is none.
        monitor: ``mpqueue top`` sees this end of it, too; ``MPQUEUE_MONITOR=1`` means the same.

    Returns:
        A `Consumer`, attached: an iterable of batches with the structure, dtypes and shapes that the source gives, one
        ``for`` loop per epoch. Their arrays are read-only views of shared memory, valid until the last view is gone.

    Raises:
        ServiceError: There was no server in time, or it has refused; or what has the name is another user's. The text
            says why and what to do.
        ValueError: The name, or an option, has an impossible value.
        TypeError: An option has the wrong type.
        OSError: The trace cannot be written.
    """
    terms = AttachTerms(
        name=name, rank=rank, timeout=timeout, uid=uid, join=join, reconnect=reconnect, writable=writable,
        allow_pickle=allow_pickle, trace=trace, monitor=monitor,
    )  # fmt: skip
    with defer_signals():
        attachment = open_attachment(terms)
        try:
            counts = Counts(open_timeline(terms))
        except BaseException:
            attachment.abandon()
            raise
        return Consumer(terms, attachment, counts)
