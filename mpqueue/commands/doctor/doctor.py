"""The command ``mpqueue doctor``: checks this machine for problems that affect training."""

import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from mpqueue.commands import frame
from mpqueue.commands.doctor import gpu as checks_gpu
from mpqueue.commands.doctor import memory as checks_memory
from mpqueue.commands.doctor import python as checks_python
from mpqueue.commands.doctor import system as checks_system
from mpqueue.commands.doctor.findings import Check, Finding, run

_EXAMPLES = """\
examples:
  mpqueue doctor
  mpqueue doctor --json > machine.json      to attach to a question
  mpqueue doctor --cache /dev/shm/decoded   also the caches in a folder

ok: no problem. note: training works, but could be faster or safer. problem: a part of mpqueue does not work.
exit status: 0; 1: there is a problem"""
CHECKS: dict[str, Check] = {
    "pidfd": checks_system.pidfd,
    "proc": checks_system.proc,
    "cpus": checks_system.cpus,
    "load": checks_system.load,
    "open files": checks_system.files,
    "processes": checks_system.processes,
    "address space": checks_system.address_space,
    "/dev/shm": checks_memory.shm,  # noqa: S108 - the mount point of POSIX shared memory on Linux
    "memfd": checks_memory.memfd,
    "memory": checks_memory.memory,
    "python": checks_python.python,
    "workers": checks_python.workers,
    "servers' folder": checks_python.folder,
    "gpu": checks_gpu.gpu,
}


def main(arguments: Sequence[str]) -> int:
    """Run all checks, print the findings, and return the exit status."""
    parser = frame.make_parser("doctor", "Check this machine for problems that affect training.", _EXAMPLES)
    parser.add_argument("--cache", action="append", default=[], metavar="FOLDER", help="also check a folder of caches")
    options = parser.parse_args(arguments)
    checks = CHECKS | {f"cache {folder}": partial(checks_memory.caches, folder) for folder in options.cache}
    findings = {name: run(check) for name, check in checks.items()}
    counts = Counter(finding.verdict for finding in findings.values())
    if options.json:
        listed = [{"name": name, **finding._asdict()} for name, finding in findings.items()]
        totals = {"problems": counts["problem"], "notes": counts["note"]}
        frame.print_json({"machine": platform.platform(), **totals, "findings": listed})
    else:
        print("\n".join(lines(findings, width=frame.width_of(sys.stdout), is_coloured=frame.is_coloured(sys.stdout))))
    return 1 if counts["problem"] else 0


def lines(findings: Mapping[str, Finding], *, width: int | None = None, is_coloured: bool = False) -> list[str]:
    """Return the lines of a report: each finding with its remedy below, and the number of problems and notes.

    Args:
        findings: The findings by name, in order.
        width: Columns of the terminal; None: lines may have any length.
        is_coloured: Use colours.
    """
    name_width = max(map(len, findings))
    indent = " " * (name_width + 11)
    found = []
    for name, finding in findings.items():
        first, *rest = frame.folded(finding.found, width, indent)
        verdict = frame.coloured(f"{finding.verdict:<7}", finding.verdict, is_wanted=is_coloured)
        found += [f"{verdict}  {name:<{name_width}}  {first.strip()}", *rest]
        if finding.remedy:
            found += frame.folded(f"-> {finding.remedy}", width, indent, hanging="   ")
    counts = Counter(finding.verdict for finding in findings.values())
    totals = [f"{counts[each]} {each}{'s' if counts[each] > 1 else ''}" for each in ("problem", "note") if counts[each]]
    found.append(f"{' and '.join(totals) or 'no problems'} in {len(findings)} checks")
    return found
