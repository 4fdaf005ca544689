"""The command ``mpqueue doctor``: looks for what would hold up training on this machine."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mpqueue.commands import checks_gpu, checks_memory, checks_python, checks_system, frame
from mpqueue.commands.findings import Check, Finding, run

_EXAMPLES = """\
examples:
  mpqueue doctor
  mpqueue doctor --json > machine.json      to be sent with a question

ok: as it should be. note: training works, and could be better. problem: something of mpqueue will not work.
exit status: 0; 1: there is a problem"""
CHECKS: tuple[Check, ...] = (
    *checks_system.CHECKS,
    *checks_memory.CHECKS,
    *checks_python.CHECKS,
    *checks_gpu.CHECKS,
)


def main(arguments: Sequence[str]) -> int:
    """Look at everything, print what was found; return the exit status."""
    parser = frame.make_parser("doctor", "Look for what would hold up training on this machine.", _EXAMPLES)
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
    """Return the findings as text, remedies beneath, and a last line that counts them.

    Args:
        findings: In their order.
        width: Columns of the terminal; None: a line may have any length.
        is_coloured: With colours.
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
    told = [f"{number} {verdict}{'s' if number > 1 else ''}" for verdict, number in counts.items() if number]
    found.append(f"{' and '.join(told) or 'nothing to mend'} in {len(findings)} checks")
    return found
