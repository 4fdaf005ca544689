"""The command ``mpqueue doctor``: checks this machine for problems that affect training."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mpqueue.commands import checks_gpu, checks_memory, checks_python, checks_system, frame
from mpqueue.commands.findings import Check, Finding, run

_EXAMPLES = """\
examples:
  mpqueue doctor
  mpqueue doctor --json > machine.json      to attach to a question

ok: no problem. note: training works, but could be faster or safer. problem: a part of mpqueue does not work.
exit status: 0; 1: there is a problem"""
CHECKS: tuple[Check, ...] = (
    *checks_system.CHECKS,
    *checks_memory.CHECKS,
    *checks_python.CHECKS,
    *checks_gpu.CHECKS,
)


def main(arguments: Sequence[str]) -> int:
    """Run all checks, print the findings, and return the exit status."""
    parser = frame.make_parser("doctor", "Check this machine for problems that affect training.", _EXAMPLES)
    options = parser.parse_args(arguments)
    findings = run(CHECKS)
    problems = sum(finding.verdict == "problem" for finding in findings)
    if options.json:
        frame.print_json(
            {
                "machine": platform.platform(),
                "problems": problems,
                "notes": sum(finding.verdict == "note" for finding in findings),
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        print("\n".join(lines(findings, width=frame.width_of(sys.stdout), is_coloured=frame.is_coloured(sys.stdout))))
    return 1 if problems else 0


def lines(findings: Sequence[Finding], *, width: int | None = None, is_coloured: bool = False) -> list[str]:
    """Return the lines of a report: each finding with its remedy below, and the number of problems and notes.

    Args:
        findings: The findings in order.
        width: Columns of the terminal; None: lines may have any length.
        is_coloured: Use colours.
    """
    name_width = max(len(finding.name) for finding in findings)
    indent = " " * (name_width + 11)
    found = []
    for finding in findings:
        first, *rest = frame.folded(finding.found, width, indent)
        verdict = frame.coloured(f"{finding.verdict:<7}", finding.verdict, is_wanted=is_coloured)
        found += [f"{verdict}  {finding.name:<{name_width}}  {first.strip()}", *rest]
        if finding.remedy:
            found += frame.folded(f"-> {finding.remedy}", width, indent, hanging="   ")
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("problem", "note")}
    totals = [f"{number} {verdict}{'s' if number > 1 else ''}" for verdict, number in counts.items() if number]
    found.append(f"{' and '.join(totals) or 'no problems'} in {len(findings)} checks")
    return found
