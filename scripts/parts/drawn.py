"""Tables and lists of pages that programs draw from stored data.

Each follows a comment that names its program or its data, and itself::

    <!-- drawn from benchmarks.json: rates -->
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any


def redrawn(page: str, source: str, draw: Callable[[str], str]) -> str:
    """Return a page with all tables and lists of a source drawn again.

    Args:
        page: The text of the page.
        source: The words of the comments, such as "drawn from benchmarks.json".
        draw: Returns the lines of a name.
    """
    return re.sub(rf"(<!-- {source}: ([\w ]+) -->\n)(?:[|-].*\n)*", lambda found: found[1] + draw(found[2]), page)


def names_of(page: str, source: str) -> list[str]:
    """Return the names of the tables and lists of a source on a page."""
    return re.findall(rf"<!-- {source}: ([\w ]+) -->", page)


def table(columns: Sequence[str], lines: Iterable[Sequence[str]], figures: Collection[str] = ()) -> str:
    """Return a table; the columns of figures are aligned to the right."""
    rules = ["---:" if column in figures else "---" for column in columns]
    head, *rows = [f"| {' | '.join(cells)} |\n" for cells in (columns, *lines)]
    return f"{head}|{'|'.join(rules)}|\n{''.join(rows)}"


def replace_rows(file: Path, rows: Iterable[dict[str, Any]], key: tuple[str, str], order: Iterable[Any]) -> list[Any]:
    """Store rows as JSON, replacing earlier ones with the same values of two columns; return all in an order."""
    kept = {(row[key[0]], row[key[1]]): row for row in (*json.loads(file.read_text("utf-8")), *rows)}
    found = [kept[each] for each in order if each in kept]
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found


def store(file: Path, data: Any) -> None:
    """Write data as JSON, one line per row."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    file.write_text(re.sub(r"\n   +|\n  (?=[]}])", " ", text) + "\n", "utf-8")
