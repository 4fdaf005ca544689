"""The command line of `scripts/scaling`: an option for each parameter of a cluster."""

import argparse
import dataclasses

from parts.scaling import costs, paper, served, table
from parts.scaling.cluster import LAYOUTS, Cluster
from parts.scaling.simulation import Outcome, outcome


def main(about: str) -> int:
    """Do what the command line asks for; return the exit status."""
    parser = _parser(about)
    options = vars(parser.parse_args())
    if options.pop("write"):
        table.save(table.simulate(print))
        print(table.markdown(table.load()))
    elif options.pop("table"):
        print(table.markdown(table.load()))
    elif options.pop("served"):
        print("\n".join(served.report(served.measure())))
    else:
        seed, timed = options.pop("seed"), options.pop("timed")
        try:
            cluster = Cluster(**options)
        except ValueError as error:
            parser.error(str(error))
        if timed:
            cluster = dataclasses.replace(cluster, record_us=costs.record_us(cluster))
        print("\n".join(report(cluster, outcome(cluster, seed))))
    return 0


def report(cluster: Cluster, found: Outcome) -> list[str]:
    """Return what a simulation found, in lines."""
    bounds = paper.bounds(cluster)
    feeds = f"{cluster.trainers} ({cluster.layout}), with {cluster.credit_of_trainer} batches under way to each"
    lines = [
        f"nodes: {cluster.nodes} with {cluster.workers} workers each; trainers: {feeds}",
        f"{found.rate:,.0f} batches/s, {found.rate * cluster.batch_mb / 1e3:,.1f} GB/s; the limit: {found.limit}",
        f"largest ring {found.ring_gb:.1f} GB; the real dispatcher took {found.cpu_us:.1f} us of this CPU for a batch",
        "",
        f"{'':24}{'busy':>8}{'bound on paper':>24}",
    ]
    for name, share in found.shares.items():
        lines.append(f"{name:24}{share:8.0%}{bounds[name]:14,.0f} batches/s")
    return lines


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, epilog="scripts/parts/scaling/cluster.py explains them.")
    for field in dataclasses.fields(Cluster):
        kind = type(field.default)
        choices = LAYOUTS if field.name == "layout" else None
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, choices=choices,
            help=f"default: {field.default}",
        )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the times that batches take")
    parser.add_argument("--timed", action="store_true", help="time the trainer's cost of a batch, for --record-us")
    parser.add_argument(
        "--served", action="store_true", help="time what one trainer with a CPU of its own can serve: some seconds"
    )
    parser.add_argument("--table", action="store_true", help="print the table of the guide, of the committed figures")
    parser.add_argument("--write", action="store_true", help="simulate the table anew, and write its figures down")
    return parser
