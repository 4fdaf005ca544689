"""The memory that Python allocates in a block."""

import contextlib
import tracemalloc


@contextlib.contextmanager
def traced():
    """Trace allocations; yield a function that returns the current and the largest number of bytes."""
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def less_than(num_bytes):
    """Check that fewer bytes are allocated at any time of the block."""
    with traced() as memory:
        yield
        assert memory()[1] < num_bytes
