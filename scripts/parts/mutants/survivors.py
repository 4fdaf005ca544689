"""The known survivors in ``survivors.md``, one per line, below a heading for each module.

A line has the form ``- `old line` -> `new line`: reason why the behaviour does not change``.
"""

import re
from pathlib import Path

_LINE = re.compile(r"- `(.*)` -> `(.*)`: (.+)")


def read(path: Path) -> dict[tuple[str, str, str], str]:
    """Return the reasons by (module, old line, new line).

    Raises:
        ValueError: A line of the list is malformed, or has no reason.
    """
    found, module = {}, ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("## "):
            module = line[3:].strip()
        elif line.startswith("- "):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"{path.name}: expected - `old line` -> `new line`: reason; got {line!r}")
            old, new, why = match.groups()
            found[module, old, new] = why
    return found
