"""Programs in separate processes that publish their state for the monitor."""

import contextlib
import subprocess
import sys
import textwrap

LOADING = """
    import sys
    import mpqueue

    class Numbers:
        def __len__(self):
            return 1 << 40
        def __getitem__(self, index):
            return mpqueue.stack([index] * 4)

    loader = mpqueue.Loader(Numbers(), workers=1, monitor=True)
    next(iter(loader))
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def loading():
    """Run a program within the context, and kill it at the end if it is still running; yield its process."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOADING)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
