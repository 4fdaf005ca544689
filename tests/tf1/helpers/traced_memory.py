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
