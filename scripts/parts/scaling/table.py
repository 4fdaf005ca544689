"""The table of the guide: three kinds of batches, in layouts of a cluster of 64 nodes. Its figures are committed."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parts.scaling import costs, paper
from parts.scaling.cluster import ALL, NEAR, Cluster
from parts.scaling.simulation import outcome

FIGURES = Path(__file__).with_name("figures.json")
KINDS = {
    "19.3 MB, 50 ms": {"batch_mb": 19.3, "batch_ms": 50.0},
    "4.8 MB, 50 ms": {"batch_mb": 4.8, "batch_ms": 50.0},
    "393 KB, 5 ms": {"batch_mb": 0.393, "batch_ms": 5.0},
}
LAYOUTS = {
    "1, fed by all 64 nodes": {"trainers": 1, "layout": NEAR},
    "8, each fed by 8 nodes": {"trainers": 8, "layout": NEAR},
    "64, each fed by all nodes": {"trainers": 64, "layout": ALL},
    "64, each fed by its own node": {"trainers": 64, "layout": NEAR},
}
LINKS_GBPS = (100.0, 25.0)
COPIES, FAST_GBPS = (1.0, 3.0), 400.0  # straight into the ring; through an object store, with its own copies
SHORT = {
    "link into the trainer": "link",
    "link out of a node": "link",
    "connection": "connection",
    "memory": "memory",
    "interpreter": "interpreter",
    "workers": "workers",
}


def scenarios() -> Iterator[tuple[dict[str, Any], Cluster]]:
    """Yield what each cell of the table is about, and its cluster."""
    for gbps in LINKS_GBPS:
        for layout, trainers in LAYOUTS.items():
            for kind, batch in KINDS.items():
                yield (
                    {"link_gbps": gbps, "layout": layout, "batches": kind},
                    Cluster(link_gbps=gbps, **trainers, **batch),  # type: ignore[arg-type]
                )


def simulate(told: Callable[[str], None]) -> dict[str, Any]:
    """Simulate all cells; gives the figures, and what they were computed with."""
    record_us = max(costs.record_us(Cluster(nodes=8, **batch)) for batch in KINDS.values())  # type: ignore[arg-type]
    cells = []
    for about, cluster in scenarios():
        told(f"{about['link_gbps']:g} Gb/s, {about['layout']}, {about['batches']}")
        cells.append(about | cell(dataclasses.replace(cluster, record_us=record_us)))
    common = dataclasses.asdict(Cluster(record_us=record_us))
    varied = {"link_gbps", "trainers", "layout", "batch_mb", "batch_ms"}
    told("copies")
    return {
        "cluster": {name: value for name, value in common.items() if name not in varied},
        "cells": cells,
        "copies": copied(record_us),
    }


def copied(record_us: float) -> list[dict[str, Any]]:
    """Simulate one trainer with a fast link, whose memory copies each byte once, or several times."""
    clusters = [Cluster(record_us=record_us, link_gbps=FAST_GBPS, copies=copies) for copies in COPIES]
    return [{"copies": cluster.copies} | cell(cluster) for cluster in clusters]


def cell(cluster: Cluster) -> dict[str, Any]:
    """Return the figures of one cluster, simulated and on paper."""
    found, (paper_limit, paper_rate) = outcome(cluster), paper.limit(cluster)
    return {
        "rate": round(found.rate),
        "of_workers": round(found.shares["workers"], 4),
        "limit": found.limit,
        "limit_share": round(found.shares[found.limit], 3),
        "ring_gb": round(found.ring_gb, 1),
        "paper_rate": round(paper_rate),
        "paper_limit": paper_limit,
    }


def markdown(figures: dict[str, Any]) -> str:
    """Return the table of the guide."""
    lines = [
        "| Links | Trainers | " + " | ".join(KINDS) + " |",
        "|---|---|" + "---|" * len(KINDS),
    ]
    cells = {(one["link_gbps"], one["layout"], one["batches"]): one for one in figures["cells"]}
    for gbps in LINKS_GBPS:
        for layout in LAYOUTS:
            row = [_cell(cells[gbps, layout, kind]) for kind in KINDS]
            lines.append(f"| {gbps:g} Gb/s | {layout} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _cell(one: dict[str, Any]) -> str:
    share = min(1.0, one["of_workers"])  # the times of the batches that were measured may lie above their mean
    return f"{one['rate']:,} ({share:.{0 if share >= 0.01 else 1}%}), {SHORT[one['limit']]}"


def load() -> dict[str, Any]:
    """Return the committed figures."""
    return json.loads(FIGURES.read_text("utf-8"))


def save(figures: dict[str, Any]) -> None:
    """Write the figures down."""
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
