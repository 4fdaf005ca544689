"""The table of options in ``docs/options.md``, from the rows of `mpqueue.plan.options`."""

import re
from pathlib import Path

from mpqueue.plan import options
from mpqueue.plan.options import rows_of
from parts.machine import ROOT

PAGE = ROOT / "docs" / "options.md"
_FRONTENDS = {
    "`Loader`": options.LoaderOptions,
    "`Server`": options.ServerOptions,
    "`OrderedEnqueuer`": options.EnqueuerOptions,
    "`GeneratorEnqueuer`": options.GeneratorEnqueuerOptions,
    "`accelerate`": options.AccelerateOptions,
}
_OPEN, _CLOSE = "<!-- written by scripts/pictures: the table of options -->", "<!-- end of the table of options -->"


def page_written_anew(page: str) -> str:
    """Return a page with the table as the rows have it now."""
    before, rest = page.split(_OPEN)
    return f"{before}{_OPEN}\n\n{table()}\n\n{_CLOSE}{rest.partition(_CLOSE)[2]}"


def table() -> str:
    """Return the table: a row for each option, and the frontends that take it with this meaning."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, kind in _FRONTENDS.items():
        for option, row in rows_of(kind).items():
            default = f'"{row.default}"' if isinstance(row.default, str) else repr(row.default)
            found.setdefault((option, default, _in_markdown(row.text)), []).append(name)
    lines = ["| Option | Default | Meaning | Of |", "|---|---|---|---|"]
    lines += [
        f"| `{option}` | `{default}` | {text} | {'all' if len(of) == len(_FRONTENDS) else ', '.join(of)} |"
        for (option, default, text), of in found.items()
    ]
    return "\n".join(lines)


def _in_markdown(text: str) -> str:
    """Return a description with the marks of code that the pages have."""
    return re.sub(r"``([^`]+)``", r"`\1`", text).replace("|", "\\|")


def write(page: Path = PAGE) -> None:
    """Write the table into its page."""
    page.write_text(page_written_anew(page.read_text("utf-8")), "utf-8")
