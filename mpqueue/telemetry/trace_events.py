"""The events of a timeline, as lines of its file: the Trace Event Format, each line with the preceding comma.

    worker 0    [wait for work][ compute [seed]   [collate] ][copy]
                                                               |  a flow: from the batch's copy until it is taken
    consumer    [   wait   ]                                   [take]  [epoch start [compare source]]
    in ring                                                   [=====]
    held                                                             [==========]
    consumer 1 of a server                                                [ batch ]

Lines are formatted for many batches at once, when the file is written. Formatting each batch within a stream of tiny
batches would take three times as long, because the code would not be in the processor's caches.
"""

import json
from typing import Any

from mpqueue.telemetry.stage_rows import StageRow

_MOST_KNOWN = 4096
_START_NAMES = {
    "hook": "on_epoch_end",
    "compare": "compare source",
    "send": "send source",
    "restart": "restart workers",
    "order": "epoch start",
    "launch": "start workers",
}
CONSUMER, FIRST_WORKER, FIRST_SERVED = 1, 10, 1 << 20  # rows

TraceKey = tuple[int, int, int]  # of a batch: id of its work item, epoch, index


class TraceEvents:
    """A formatter of events, which are passed in order.

    Args:
        pid: Id of the traced process.
    """

    def __init__(self, pid: int) -> None:
        self._begin = f',\n{{"pid":{pid},"ph":'
        self._copied: dict[int, int] = {}  # by work item: the time when a drawn batch was complete in the ring
        self._drawn_until: dict[int, int] = {}  # by worker

    def process(self, name: str) -> str:
        """Return the event that names the process."""
        return self._meta("process_name", 0, {"name": name})

    def row(self, row: int, name: str) -> str:
        """Return the events that name a row and set its position."""
        order = self._meta("thread_sort_index", row, {"sort_index": row})
        return self._meta("thread_name", row, {"name": name}) + order

    def batch(self, worker: int, key: TraceKey, began_ns: int, stages_ns: tuple[int, int, int, int, int]) -> str:
        """Return the events of a batch in its worker's row; the stages are as for `Timeline.batch`."""
        work_id, epoch, index = key
        compute, copy, wait, seed, collate = stages_ns
        row, free_ns = FIRST_WORKER + worker, self._drawn_until.get(worker, 0)
        began_ns = max(began_ns, free_ns)  # a worker may lose its CPU between two readings of the clock
        computed = began_ns + compute
        copied = self._drawn_until[worker] = computed + copy
        if len(self._copied) >= _MOST_KNOWN:
            self._copied.clear()  # entries of dropped batches
        self._copied[work_id] = copied
        text = self.slice(f"compute {index}", row, began_ns, compute, f'{{"epoch":{epoch},"index":{index}}}')
        if wait:
            text += self.slice("wait for work", row, max(began_ns - wait, free_ns), min(wait, began_ns - free_ns))
        if seed:
            text += self.slice("seed", row, began_ns, min(seed, compute))
        if collate:
            text += self.slice("collate", row, computed - min(collate, compute), min(collate, compute))
        text += self.slice(f"copy {index}", row, computed, copy)
        return (
            f'{text}{self._begin}"s","name":"batch","cat":"batch","ts":{(computed + copy // 2) / 1e3:.3f},'
            f'"tid":{row},"id":{work_id}}}'
        )

    def take(self, key: TraceKey, began_ns: int, ended_ns: int) -> str:
        """Return the events of taking a batch, if the batch is drawn in its worker's row."""
        work_id, epoch, index = key
        copied = self._copied.pop(work_id, None)
        if copied is None:
            return ""
        args = f'{{"epoch":{epoch},"index":{index}}}'
        return (
            f"{self.slice(f'take {index}', CONSUMER, began_ns, ended_ns - began_ns, args)}"
            f'{self._begin}"f","name":"batch","cat":"batch","ts":{(began_ns + ended_ns) / 2e3:.3f},"tid":{CONSUMER},'
            f'"id":{work_id},"bp":"e"}}{self.span("in ring", work_id, copied, began_ns)}'
        )

    def slice(self, name: str, row: int, began_ns: int, ns: int, args: str = "{}") -> str:
        """Return an event with a duration in one row."""
        return (
            f'{self._begin}"X","name":"{name}","ts":{began_ns / 1e3:.3f},"dur":{ns / 1e3:.3f},'
            f'"tid":{row},"args":{args}}}'
        )

    def start_part(self, name: str, began_ns: int, ended_ns: int) -> str:
        """Return the event of a part of an epoch's start. It contains its inner parts."""
        return self.slice(_START_NAMES[name], CONSUMER, began_ns, ended_ns - began_ns)

    def span(self, name: str, row: int, began_ns: int, ended_ns: int) -> str:
        """Return the events of a period of a batch, which may overlap with other batches' periods."""
        rest = f'"tid":{CONSUMER},"id":"{name} {row}"}}'
        return (
            f'{self._begin}"b","name":"{name}","cat":"{name}","ts":{began_ns / 1e3:.3f},{rest}'
            f'{self._begin}"e","name":"{name}","cat":"{name}","ts":{max(began_ns, ended_ns) / 1e3:.3f},{rest}'
        )

    def stage(self, row: StageRow, at_ns: int) -> str:
        """Return the sums of a stage at a moment, as a counter event."""
        name, num_in, num_out, ns, waiting_ns = row
        args = f'{{"in":{num_in},"out":{num_out},"ms":{ns / 1e6:.3f},"waiting ms":{waiting_ns / 1e6:.3f}}}'
        return f'{self._begin}"C","name":{json.dumps(f"stage {name}")},"ts":{at_ns / 1e3:.3f},"args":{args}}}'

    def mark(self, name: str, row: int, scope: str, at_ns: int) -> str:
        """Return an event without a duration."""
        return f'{self._begin}"i","name":{json.dumps(name)},"ts":{at_ns / 1e3:.3f},"tid":{row},"s":"{scope}"}}'

    def _meta(self, name: str, row: int, args: dict[str, Any]) -> str:
        return f'{self._begin}"M","tid":{row},"name":"{name}","args":{json.dumps(args)}}}'
