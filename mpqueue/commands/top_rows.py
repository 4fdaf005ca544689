"""The rows of ``mpqueue top``: the answers of the processes, and the changes since their previous answers. Pure.

Counters count since the start of a process. Rates are differences of two answers, by that process's own clock, so there
are none before the second answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpqueue.telemetry.monitor.asking import MonitorAnswer

_MANY = {"process": "processes", "thread": "threads", "ray": "by Ray"}
_SILENT = "does not answer"
_SLOW_STARTS = 0.1  # share of the time


@dataclass(frozen=True)
class TopRow:
    """One loader, enqueuer, server or consumer; or a process that does not answer.

    Attributes:
        pid: Id of its process.
        kind: "Loader", "OrderedEnqueuer", "GeneratorEnqueuer", "DataLoader", "keras", "Server", "Consumer"; "stage" for
            a stage of the dataset in the row above, "part" for a part of its mixture, "cache" for a cache of it; empty
            if the process does not answer.
        name: Name of the source, of the server, of the stage or of the part.
        workers: Number and kind of workers.
        epoch: Number of the epoch; None: no epoch.
        batches: Batches delivered since the start; for a stage, elements returned; for a part, its samples; for a
            cache, elements read from it.
        batches_per_s: Recent rate; None: not known yet.
        bytes_per_s: Recent rate of the bytes of arrays.
        wait_share: The share of time that the consumer has spent waiting for batches.
        ring: Slots in use, and all slots.
        deaths: Worker crashes.
        note: Anything else, in words.
        trouble: The process does not answer.
    """

    pid: int
    kind: str = ""
    name: str = ""
    workers: str = ""
    epoch: int | None = None
    batches: int | None = None
    batches_per_s: float | None = None
    bytes_per_s: float | None = None
    wait_share: float | None = None
    ring: tuple[int, int] | None = None
    deaths: int = 0
    note: str = ""
    trouble: bool = False


def rows_of(answers: Sequence[MonitorAnswer], before: Sequence[MonitorAnswer] = ()) -> list[TopRow]:
    """Return the rows by process; consumers follow their server.

    Args:
        answers: The latest answers.
        before: Earlier answers of the same processes.
    """
    earlier = {answer.path: answer.report for answer in before if answer.report is not None}
    served = {
        (answer.pid, consumer.get("pid"))
        for answer in answers
        for thing in _shown(answer.report)
        for consumer in _statistics(thing).get("consumers", ())
    }
    found: list[TopRow] = []
    for answer in answers:
        if answer.report is None:
            found.append(TopRow(answer.pid, name=_SILENT, note=answer.trouble, trouble=True))
            continue
        past = earlier.get(answer.path)
        for thing in _shown(answer.report):
            if thing.get("kind") == "Consumer" and (thing.get("server_pid"), answer.pid) in served:
                continue  # listed by its server
            found += _rows_of_thing(answer, thing, past)
    return found


def _shown(report: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [] if report is None else [thing for thing in report.get("shown", ()) if isinstance(thing, dict)]


def _statistics(thing: Mapping[str, Any]) -> dict[str, Any]:
    return thing.get("statistics") or {}


def _rows_of_thing(answer: MonitorAnswer, thing: dict[str, Any], earlier: Mapping[str, Any] | None) -> list[TopRow]:
    assert answer.report is not None
    now = _statistics(thing)
    then, seconds = _before(answer.report, thing, earlier)
    own = TopRow(
        pid=answer.pid,
        kind=str(thing.get("kind", "?")),
        name=str(thing.get("name", "")),
        workers=_workers(thing),
        epoch=thing.get("epoch"),
        batches=now.get("batches"),
        batches_per_s=_rate(now, then, "batches", seconds),
        bytes_per_s=_rate(now, then, "bytes", seconds),
        wait_share=_share(now, then, seconds),
        ring=(now["slots_in_use"], now["num_slots"]) if now.get("num_slots") else None,
        deaths=now.get("deaths", 0),
        note=_note(thing, now),
    )
    past = {consumer.get("number"): consumer for consumer in (then or {}).get("consumers", ())}
    consumers = (
        _consumer(own, consumer, past.get(consumer.get("number")), seconds) for consumer in now.get("consumers", ())
    )
    return [
        own,
        *_stages(own, now, then, seconds),
        *_parts(own, now, then, seconds),
        *_caches(own, now, then, seconds),
        *consumers,
    ]


def _stages(own: TopRow, now: Mapping[str, Any], then: Mapping[str, Any] | None, seconds: float) -> list[TopRow]:
    """Return the rows of the stages of a dataset: their output, and their recent share of the time of all stages."""
    stages = now.get("stages") or ()
    earlier = {stage["name"]: stage for stage in (then or {}).get("stages") or ()}
    spent = {stage["name"]: _rate(stage, earlier.get(stage["name"]), "total_s", seconds) for stage in stages}
    total = sum(rate or 0.0 for rate in spent.values())
    return [
        TopRow(
            pid=own.pid,
            kind="stage",
            name=stage["name"],
            batches=stage["num_out"],
            batches_per_s=_rate(stage, earlier.get(stage["name"]), "num_out", seconds),
            note=f"of {stage['num_in']:,}{_share_of(spent[stage['name']], total)}",
        )
        for stage in stages
    ]


def _parts(own: TopRow, now: Mapping[str, Any], then: Mapping[str, Any] | None, seconds: float) -> list[TopRow]:
    """Return the rows of the parts of a mixture: their samples, and their share of all samples."""
    parts, earlier = now.get("parts") or {}, (then or {}).get("parts") or {}
    total = sum(parts.values())
    return [
        TopRow(
            pid=own.pid,
            kind="part",
            name=str(name),
            batches=count,
            batches_per_s=_rate(parts, earlier, name, seconds),
            note=f"{count / total:.1%} of the samples" if total else "",
        )
        for name, count in parts.items()
    ]


def _caches(own: TopRow, now: Mapping[str, Any], then: Mapping[str, Any] | None, seconds: float) -> list[TopRow]:
    """Return the rows of the caches: elements read from them by all processes of the host, and what is in them."""
    earlier = {cache["name"]: cache for cache in (then or {}).get("caches") or ()}
    return [
        TopRow(
            pid=own.pid,
            kind="cache",
            name=cache["name"],
            batches=cache["hits"],
            batches_per_s=_rate(cache, earlier.get(cache["name"]), "hits", seconds),
            note=f"{cache['size_bytes'] / 1e6:,.0f} MB, {cache['stored']:,} stored, {cache['evictions']:,} evictions",
        )
        for cache in now.get("caches") or ()
    ]


def _share_of(rate: float | None, total: float) -> str:
    return f", {(rate or 0.0) / total:.0%} of the time" if total else ""


def _consumer(server: TopRow, now: dict[str, Any], then: dict[str, Any] | None, seconds: float) -> TopRow:
    """Return the row of a consumer, as reported by its server."""
    rank = "" if now.get("rank") is None else f", rank {now['rank']}"
    notes = ["the others wait for it"] if now.get("holds_up") else []
    notes += [f"{now['skipped']} skipped"] if now.get("skipped") else []
    notes += [f"{now['recalled']} recalled"] if now.get("recalled") else []
    notes += [f"lags by {now['behind']} batches"] if now.get("behind") else []
    return TopRow(
        pid=int(now.get("pid", 0)),
        kind="Consumer",
        name=f"{server.name}{rank}",
        epoch=now.get("epoch"),
        batches=now.get("batches"),
        batches_per_s=_rate(now, then, "batches", seconds),
        bytes_per_s=_rate(now, then, "bytes", seconds),
        wait_share=_share(now, then, seconds),
        note=", ".join(notes),
    )


def _before(
    report: Mapping[str, Any], thing: Mapping[str, Any], past: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, float]:
    """Return the earlier statistics of the same object, and the seconds since then."""
    if past is None:
        return None, 0.0
    found = next((other for other in _shown(past) if other.get("id") == thing.get("id")), None)
    if found is None:
        return None, 0.0
    return _statistics(found), float(report.get("clock_s", 0.0)) - float(past.get("clock_s", 0.0))


def _rate(now: Mapping[str, Any], then: Mapping[str, Any] | None, key: str, seconds: float) -> float | None:
    """Return the count per second; None if it is unknown, or counting has restarted."""
    if then is None or key not in now or key not in then or seconds <= 0 or now[key] < then[key]:
        return None
    return float(now[key] - then[key]) / seconds


def _share(now: Mapping[str, Any], then: Mapping[str, Any] | None, seconds: float) -> float | None:
    """Return the share of time spent waiting. A wait is counted when it ends, and may have started earlier."""
    rate = _rate(now, then, "wait_s", seconds)
    return None if rate is None else min(1.0, rate)


def _workers(thing: Mapping[str, Any]) -> str:
    number = thing.get("workers")
    if number is None:
        return ""
    if not number:
        return "none"
    kind = str(thing.get("backend", ""))
    return f"{number} {kind if number == 1 else _MANY.get(kind, kind)}".strip()


def _note(thing: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    notes = []
    if not thing.get("is_running", True):
        notes.append("stopped")
    if "queues" in thing:
        notes.append(f"{thing['queues']} queues")
    if thing.get("mode"):
        notes.append(str(thing["mode"]) + (f" over {thing['world']}" if thing.get("world") else ""))
    if now.get("epoch_start_share", 0.0) >= _SLOW_STARTS:
        notes.append(f"{now['epoch_start_share']:.0%} of the time at starts of epochs")
    notes += [f"{now[key]} {label}" for key, label in (("skipped", "skipped"), ("copies", "copies")) if now.get(key)]
    return ", ".join(notes)
