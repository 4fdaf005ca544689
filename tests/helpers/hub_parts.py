"""The parts inside the hub of queues, for tests that must replace them or know their state."""


def steps_of(hub):
    """Return the steps that a hub takes for other processes."""
    return hub._steps


def thread_of(hub):
    """Return the thread that polls the connections of a hub."""
    return hub._thread


def find_shared(hub, description):
    """Return the queue with an encoded description, as a hub does for the record of a worker."""
    return steps_of(hub)._find_shared(description)


def serve(hub, events):
    """Serve events of the connections of a hub, as its thread does."""
    hub._serve(events)


def close(hub):
    """Close a hub without its watch."""
    hub._close()


def is_asleep(listener):
    """Return whether the thread of a listener leaves the polling to another thread."""
    return listener._thread_sleeps
