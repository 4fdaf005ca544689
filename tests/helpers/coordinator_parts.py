"""The parts inside coordinators and their servers, for tests that must end or address them."""


def address_of(coordinator):
    """Return the address at which other processes reach a coordinator, and start to serve it."""
    return coordinator._endpoint.address()


def end(coordinator):
    """End the service of a coordinator now, as the garbage collector would later."""
    finalizer = coordinator._endpoint._finalizer
    if finalizer is not None:
        finalizer.call()


def listener_of(server):
    """Return the socket that accepts the connections to a `StopServer`."""
    return server._door._listener
