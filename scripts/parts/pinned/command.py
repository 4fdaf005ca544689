"""The program of ``scripts/pinned``."""

import argparse

import torch

from parts.pinned import checks


def main(about: str) -> int:
    """Run all checks; return 0 if they pass, 1 if one fails, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="scripts/pinned", description=about)
    parser.add_argument("--copies", type=int, default=10_000, help="overlapped copies (default: 10000)")
    chosen = parser.parse_args()
    if chosen.copies < 1:
        parser.error(f"--copies must be 1 or more, got {chosen.copies}")
    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} cannot use a GPU: no check was run")
        return 2
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    findings = {
        "tensor.is_pinned()": checks.is_pinned(),
        "host to device": checks.transfer_rate(),
        "overlapped copies": checks.overlapped_copies(chosen.copies),
        "prefetched batches": checks.prefetched(),
        "program ahead of the GPU": checks.running_ahead(),
        "a real loop": checks.real_loop(),
    }
    for name, finding in findings.items():
        print(f"{'ok  ' if finding.passes else 'FAIL'} {name}: {finding.text}")
    passes = all(finding.passes for finding in findings.values())
    print("PASS" if passes else "FAIL")
    return 0 if passes else 1
