"""The table of options in ``docs/reference/options.md``, from the docstrings of `mpqueue.plan.options.options`."""

import re
from pathlib import Path

from mpqueue.plan.options import options
from mpqueue.plan.options.options import rows_of
from mpqueue.plan.options.signatures import GROUPS, texts_of
from parts.machine import ROOT

PAGE = ROOT / "docs" / "reference" / "options.md"
_FRONTENDS = {
    "`Loader`": options.LoaderOptions,
    "`Server`": options.ServerOptions,
    "`OrderedEnqueuer`": options.EnqueuerOptions,
    "`GeneratorEnqueuer`": options.GeneratorEnqueuerOptions,
    "`accelerate`": options.AccelerateOptions,
}
_OPEN, _CLOSE = "<!-- written by scripts/pictures: the table of options -->", "<!-- end of the table of options -->"


def with_current_table(page: str) -> str:
    """Return a page with the table updated from the rows."""
    before, rest = page.split(_OPEN)
    return f"{before}{_OPEN}\n\n{table()}\n\n{_CLOSE}{rest.partition(_CLOSE)[2]}"


def table() -> str:
    """Return the table: a row for each option, with the frontends where it has this meaning."""
    names = [name for group in GROUPS.values() for name in group]
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, kind in _FRONTENDS.items():
        texts = texts_of(kind)
        for option, row in rows_of(kind).items():
            default = f'"{row.default}"' if isinstance(row.default, str) else repr(row.default)
            found.setdefault((option, default, _in_markdown(texts[option])), []).append(name)
    lines = ["| Option | Default | Meaning | Frontends |", "|---|---|---|---|"]
    lines += [
        f"| `{option}` | `{default}` | {text} | {'all' if len(of) == len(_FRONTENDS) else ', '.join(of)} |"
        for (option, default, text), of in sorted(found.items(), key=lambda row: names.index(row[0][0]))
    ]
    return "\n".join(lines)


def _in_markdown(text: str) -> str:
    """Return a description with Markdown's code marks."""
    return re.sub(r"``([^`]+)``", r"`\1`", text).replace("|", "\\|")


def write(page: Path = PAGE) -> None:
    """Write the table into its page."""
    page.write_text(with_current_table(page.read_text("utf-8")), "utf-8")
