"""The parts inside a server and its consumers, for tests that must pause them or know their state."""


def attachment_of(consumer):
    """Return the present connection of a consumer, with its ring."""
    return consumer._attachment


def specs_of(consumer):
    """Return the layouts of batches that a consumer knows."""
    return attachment_of(consumer).ring._specs


def listener_of(server):
    """Return the socket that accepts the connections to a scripted server."""
    return server._claim.listener


def stream_of(server):
    """Return the stream of a server."""
    return server._stream


def use_pipeline(stream, pipeline):
    """Make the stream of a server use a pipeline that a test has made."""
    stream._session.pipeline = pipeline
    stream._use(pipeline)


def loop_of(server):
    """Return the loop of a running server."""
    return server._loop


def unvetted_of(server):
    """Return the connections to a running server that have not been checked."""
    return loop_of(server)._reception.strangers
