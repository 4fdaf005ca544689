"""A shared folder for JAX's compilation cache during one run of the tests.

Nearly every fit in the tests compiles the same small model, in this process, in parallel test processes and in programs
that a test starts. That is most of the time of a fit. JAX's cache keys are the computation and the version of JAX.
"""

import os
import tempfile

_SETTINGS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
_kept = []


def keep_compiled():
    """Enable JAX's compilation cache, unless a parent process has already chosen a folder."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="mpqueue-jax-", ignore_cleanup_errors=True)
    _kept.append(folder)  # removed when the process ends
    os.environ.update({"JAX_COMPILATION_CACHE_DIR": folder.name, **_SETTINGS})
