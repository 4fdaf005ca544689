"""The command ``mpqueue`` in the test's process."""

import pytest

from mpqueue.__main__ import main


def status_at_exit(*arguments):
    """Run a command that ends with `SystemExit`, as the help and wrong arguments do; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return ended.value.code
