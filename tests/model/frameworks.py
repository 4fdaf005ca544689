"""The front ends of asyncio, torch, JAX and Keras over a loader."""

from dataclasses import replace

from model import functions
from model.elements import Failed, Impossible
from model.expected import MOST, run_of
from model.playing import ALL, FRONTS, OPENED, Front, Player
from model.program import END


class Awaiting(Player):
    """Plays with ``async for``."""

    def do_cancel(self, after):
        if not self.take(1, f"[outcome(each.cancelled, {after % 30 / 5000}) for each in its]"):
            self.begin()

    def do_tasks(self, count):
        """Several tasks share the iterator."""
        expected = self._expected(count)
        call = f"[each.shared({len(expected)}) for each in its]"
        self.script.check(call, [sorted(each, key=repr) for each in zip(*expected, strict=True)])
        if expected[-1][0] == END:
            self.begin()


class Adapting(Player):
    """Plays on a framework, which gets batches that are arrays."""

    wrapped = ""

    def __init__(self, play):
        super().__init__(_as_arrays(play))

    def open(self):
        super().open()
        if self.wrapped:
            self.script.do(f"fronts = [{self.wrapped} for each in runs]")


def _as_arrays(play):
    source, options = play.source, play.options
    if not isinstance(source, tuple):
        size = {} if "batch_sampler" in options else {"batch_size": 2}
        options = {**size, **options, "collate": functions.Digits(getattr(options.get("collate"), "kinds", ""))}
    elif source[-1][0] == "batch":
        *given, collate = source[-1]
        source = (*source[:-1], (*given, functions.Digits(getattr(collate, "kinds", ""))))
    else:
        source = (*source, ("map", functions.Digits(), 1, False))
    return replace(play, source=source, options=options)


class Prefetching(Adapting):
    """Plays on `mpqueue.torch.prefetch` on the CPU."""

    wrapped, states = "mpqueue.torch.prefetch(each, 'cpu')", "fronts"


class Copying(Prefetching):
    """Plays on `mpqueue.torch.prefetch` on a stand-in for a device."""

    @property
    def wrapped(self):
        return f"on_device(each, {self.play.seed % 4})"

    def do_stop(self, number=0):
        self.script.do("for each in runs: each.stop()")  # the iterators return their batches
        self.run.stop()
        self.begin()

    def resume(self, state, number):
        """Load a state before the first loop, or within a loop."""
        if number % 2:
            self.leave()
        super().resume(state, number)

    def leave(self):
        """Leave a loop that is not part of the run."""
        self.script.do(f"its = {self.front.begin}")
        self.script.do("take(its)")


class Transferring(Copying):
    """Plays on `mpqueue.jax.device_iterator`."""

    wrapped, states = "", "its"

    def begin(self):
        self.script.do(f"ahead = {self.play.seed % 4}")
        super().begin()

    def resume(self, state, number):
        """Load a state into the loader of the next iterator, or into an iterator within its epoch."""
        if number % 2:
            self.leave()
            self.script.do(f"for rank, each in enumerate(its): each.load_state_dict({state})")
            self.run.begin()
        else:
            self.script.do(f"for rank, each in enumerate(runs): each.load_state_dict({state})")
            self.begin()


class Fitting(Adapting):
    """Plays calls of Keras. Each of them is one or more loops."""

    wrapped = "mpqueue.keras.accelerate(each)"

    def begin(self):
        """Each call begins itself."""

    def do_stop(self, number=0):
        self.script.do("for each in runs: each.stop()")
        self.run.stop()

    def do_next(self, count):
        self.do_fit(0, count % 2, 4 * count, count, count)

    def do_fit(self, way, epochs, most, at, flags):
        """Run epochs, with a validation after each, until one raises or a fit is stopped; keep a state of a fit."""
        way, is_fit, held_out, options = ("fit", "fit", "evaluate", "predict")[way % 4], way % 4 < 2, None, ""
        has_hook = hasattr(self.play.source, "in_epoch")  # which is not called for an epoch that was left
        epochs, most, at = (epochs % 3 + 1, 0 if has_hook else most, at) if is_fit else (1, 0, 0)
        if is_fit:
            options = f", epochs={epochs}"
            if flags & 2 and self.run.world == 1 and not (has_hook or self.run.weights):
                self.script.do(f"other = {self.opened(self.play.seed + 1, self.text)}")
                held_out = run_of(self.setup, self.play.seed + 1, 1, self.play.options.get("exclude", []))
                options += ", validation_data=mpqueue.keras.accelerate(other[0])"
        seen, steps = [], []
        for number in range(epochs):
            found = _epoch(self.run, most and most - len(steps), is_first=not number)
            steps += found
            seen += [row for row, _ in found] if way != "evaluate" else _boxed(found)
            if held_out is not None and not _has_failed(*seen[-1:]):
                seen += _boxed(_epoch(held_out, 0, is_first=not number))
            if _has_failed(*seen[-1:]) or len(steps) == most:
                break
        given = f"{most or None}, {at}, {bool(flags & 1)}{options}"
        self.script.do(f"found = [fitted({way!r}, *each, {given}) for each in zip(runs, fronts)]")
        expected = [[row[rank] for row in seen] for rank in range(self.run.world)]
        self.script.check("[each[0] for each in found]", expected)
        if 0 < at <= len(steps) and not _has_failed(steps[at - 1][0]):
            self.script.do(f"state{len(self.saved)} = json.loads(json.dumps([each[1][0] for each in found]))")
            self.saved.append(steps[at - 1][1])


def _epoch(run, most, *, is_first):
    """Return the batches of all ranks of the next epoch, each with the state after it, up to an error."""
    run.begin()
    found = []
    while len(found) < (most or MOST) and (row := run.take())[0] != END:
        found.append((row, run.state()))
        if _has_failed(row):
            if not all(isinstance(each, Failed) for each in row):
                raise Impossible  # the ranks are at different batches
            break
    if not most and len(found) == MOST:
        raise Impossible
    if is_first and not found:
        return [([Failed("ValueError", "Keras needs at least one batch")] * run.world, None)]
    return found


def _boxed(found):
    """Return the batches as the model of Keras records them in an evaluation."""
    return [row if _has_failed(row) else [[each] for each in row] for row, _ in found]


def _has_failed(row=()):
    return any(isinstance(each, Failed) for each in row)


_EACH = " for each in runs]"
FRONTS |= {
    "async": Front(OPENED, f"[Awaited(each){_EACH}", ALL - {"interrupt"} | {"cancel", "tasks", "memory"}, Awaiting),
    "prefetch": Front(OPENED, "[iter(each) for each in fronts]", ALL, Prefetching),
    "prefetch-ahead": Front(OPENED, "[iter(each) for each in fronts]", ALL, Copying),
    "jax": Front(OPENED, f"[mpqueue.jax.device_iterator(each, prefetch=ahead){_EACH}", ALL, Transferring),
    "keras": Front(OPENED, "", ALL - {"finish", "again", "interrupt", "fork"} | {"fit"}, Fitting),
}
