"""The known survivors: ``survivors.md``, a line for each, below a heading for each module.

A line has the form ``- `old line` -> `new line`: why nothing changes``.
"""

import re
from pathlib import Path

_LINE = re.compile(r"- `(.*)` -> `(.*)`: (.+)")


def read(path: Path) -> dict[tuple[str, str, str], str]:
    """Reasons by (module, old line, new line).

    Raises:
        ValueError: A line of the list cannot be read, or gives no reason.
    """
    found, module = {}, ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("## "):
            module = line[3:].strip()
        elif line.startswith("- "):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"{path.name} says {line!r}; expected - `old line` -> `new line`: reason")
            old, new, why = match.groups()
            found[module, old, new] = why
    return found
