"""Parts of one run, each measured by a command of its own, joined to what one command would have written.

So a long run can be ended behind any workload and gone on with later. All rounds of a workload are in one
part, and take turns there, so that its ratios are of the same minutes.
"""

from collections.abc import Iterable
from typing import Any

_SAME = ("machine", "workers", "commit", "cost_heads")  # in all parts


def join(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the parts as one run.

    Args:
        parts: What ``scripts/benchmark.py --json`` has written, of different workloads.

    Raises:
        ValueError: They are of different commits, machines or numbers of workers; or two have measured the same.
    """
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key not in whole:
                whole[key] = value
            elif key in _SAME:
                if whole[key] != value:
                    raise ValueError(f"parts of different runs: {key} is {whole[key]!r} and {value!r}")
            elif key == "date":
                whole[key] = max(whole[key], value)
            elif key == "rates":
                _refuse_what_is_there_twice(whole[key], value)
                whole[key] = whole[key] + value
            elif isinstance(value, list):
                whole[key] = whole[key] + [one for one in value if one not in whole[key]]
            else:
                whole[key] = whole[key] | value
    return whole


def _refuse_what_is_there_twice(rates: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    twice = {row["workload"] for row in rates} & {row["workload"] for row in more}
    if twice:
        raise ValueError(f"two parts have measured {', '.join(sorted(twice))}: leave one of them out")
