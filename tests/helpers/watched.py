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
    batches = iter(loader)
    next(batches)
    print("ready", flush=True)
    for line in sys.stdin:  # the number of batches to take
        for _ in range(int(line)):
            next(batches)
        print("taken", flush=True)
    loader.close()
"""


class Program:
    """A process that takes batches on command."""

    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def expect(self, word):
        line = self.process.stdout.readline()
        assert line == f"{word}\n", line

    def take(self, number):
        print(number, file=self.process.stdin, flush=True)
        self.expect("taken")


@contextlib.contextmanager
def loading(**options):
    """Run a program within the context, and kill it at the end if it is still running."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOADING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            program = Program(process)
            program.expect("ready")
            yield program
        finally:
            process.kill()
