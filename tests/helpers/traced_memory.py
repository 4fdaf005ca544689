"""A bound for the memory that Python allocates."""

import contextlib
import tracemalloc


@contextlib.contextmanager
def allocates_less_than(num_bytes):
    """Check that Python never has as many bytes allocated as this in the block."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < num_bytes
