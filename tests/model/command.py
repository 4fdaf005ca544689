"""Plays for some minutes in several processes, and reports pairs of features, and the programs of differences.

A process plays one play after another with one front end, and writes a line for each. If it crashes or hangs, the play
at fault is known. Its turn ends soon, and the next process has another front end: a library that one front end
imports, such as torch, changes the state of a fork.
"""

import collections
import contextlib
import faulthandler
import itertools
import json
import logging
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HANGS_S, _TURN_S, _CANDIDATES, _BATCHES_OF_TURN = 300, (10, 180), 8, 10_000


def main(count, seed, folder=".", jobs=2, report=print, fronts=None, focus=()):
    """Play ``count`` times, or with a float for that many minutes; return True if the product equals the model.

    Without the name of a front end, the seed draws the name for each turn. Each play has all features and operations of
    the focus.
    """
    counts, num_plays, wrong = Pairs(), collections.Counter(), {}
    is_count = isinstance(count, int)
    for found in itertools.islice(
        plays(3600 if is_count else count * 60, seed, jobs, fronts, focus=focus), count if is_count else None
    ):
        num_plays[found["front"]] += 1
        counts.add(found["features"], found["operations"])
        if found["error"]:
            wrong[found["seed"]] = found
            report(f"seed {found['seed']}, {found['front']}: {found['error']}")
    with open(os.path.join(folder, "model-pairs.txt"), "w", encoding="utf-8") as file:
        file.write(counts.table())
    for each in list(wrong)[:8]:
        path = os.path.join(folder, f"model-{each}.py")
        program = shrunk_program(each, wrong[each]["front"], focus)
        with open(path, "w", encoding="utf-8") as file:
            file.write(program or f'"""Seed {each}, {wrong[each]["front"]}: {wrong[each]["error"]}"""\n')
        report(f"seed {each}, {wrong[each]['front']}: {path}")
    report(", ".join(f"{front}: {number}" for front, number in sorted(num_plays.items())))
    report(f"{num_plays.total()} plays from seed {seed}, {len(wrong)} with differences")
    return not wrong


class Pairs:
    """How often two features, and an operation and a feature, met."""

    def __init__(self):
        self.counts = collections.Counter()
        self.features, self.operations = set(), set()

    def add(self, features, operations):
        self.features |= set(features)
        self.operations |= set(operations)
        self.counts.update(_pairs(features, operations))

    def num_new(self, features, operations):
        return sum(pair not in self.counts for pair in _pairs(features, operations))

    def table(self):
        """Return a row for each feature and operation, with the number of plays of each column's feature."""
        columns = sorted(self.features)
        lines = ["".ljust(14) + " ".join(str(number).rjust(4) for number in range(len(columns)))]
        for row in [*columns, *sorted(self.operations)]:
            cells = [self.counts[tuple(sorted((row, column)))] if row != column else "" for column in columns]
            number = f"{columns.index(row)} " if row in columns else ""
            lines.append((number + row).ljust(14)[:14] + " ".join(str(cell or ".").rjust(4) for cell in cells))
        return "\n".join(lines)


def _pairs(features, operations):
    pairs = [*itertools.combinations(sorted(features), 2), *itertools.product(features, operations)]
    return [tuple(sorted(pair)) for pair in pairs]


def plays(seconds, seed, jobs, fronts, package="", focus=()):
    """Yield what each play found. The package may be another copy, in a folder."""
    from model import drawing  # which also adds front ends

    names = [fronts] if fronts else drawing.fronts()
    shortest, longest = _TURN_S
    turn_s = max(shortest, min(longest, seconds * jobs / (2 * len(names))))  # each front end has about two of them
    until, order = time.monotonic() + seconds, turns(seed, names)
    children = [_Child(order, until, turn_s, package, focus) for _ in range(jobs)]
    try:
        yield from _read(children, until)
    finally:
        for child in children:
            child.lost()


def turns(seed, names):
    """Yield the front end of each turn, and the number of its first plays. Each round has all front ends, shuffled."""
    for number in itertools.count():
        drawn = random.Random(f"{seed} {number // len(names)}").sample(names, len(names))
        yield drawn[number % len(names)], seed * 1_000_000 + number * _BATCHES_OF_TURN


def _read(children, until):
    while children:
        ready, _, _ = select.select([child.output for child in children], [], [], 1)
        for child in list(children):
            lines = child.lines() if child.output in ready else []
            for found in map(json.loads, lines or ()):
                child.began(found)
                if "error" in found:
                    yield found
            if lines is None or child.is_late():
                children.remove(child)
                if time.monotonic() < until:
                    children.append(child.next())
                found = child.lost()
                if found is not None:
                    yield found


class _Child:
    """A process that plays for a turn."""

    def __init__(self, order, until, turn_s, package, focus):
        self._now, self._since, self._rest = None, time.monotonic(), (order, until, turn_s, package, focus)
        self._rest_of_line = b""
        self._errors = tempfile.TemporaryFile("w+")
        self._files = _folder()
        front, batch = next(order)
        left = min(max(1, until - time.monotonic()), turn_s)
        arguments = package, "--play", batch, left, front, *focus
        self._process = _started(*arguments, errors=self._errors, folder=self._files.name)
        self.output = self._process.stdout

    def next(self):
        return _Child(*self._rest)

    def lines(self):
        """Return the complete lines that can be read now; None at the end."""
        data = os.read(self.output.fileno(), 1 << 20)
        *lines, self._rest_of_line = (self._rest_of_line + data).split(b"\n")
        return lines if data else None

    def began(self, found):
        self._since = time.monotonic()
        self._now = None if "error" in found else found

    def is_late(self):
        return time.monotonic() - self._since > 2 * _HANGS_S

    def lost(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.seek(0)
        what = f"the process hung or ended with {self._process.returncode}\n{self._errors.read()[-6000:]}"
        self._errors.close()
        self.output.close()
        self._files.cleanup()
        return self._now and {**self._now, "error": what}


def _folder():
    """Return the folder for the temporary files of a process, which may be killed before it removes them."""
    return tempfile.TemporaryDirectory(prefix="model-", ignore_cleanup_errors=True)


def _started(package, *arguments, folder, errors=subprocess.DEVNULL):
    command = [sys.executable, "-W", "ignore", "-m", "model.command", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": package, "TMPDIR": folder}
    options = {"cwd": TESTS, "env": environment, "start_new_session": True}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **options)


def _ended(seconds, package, *arguments):
    """Return the output and the status of a process; its status is "hung" if it takes too long."""
    with _folder() as folder:
        process = _started(package, *arguments, folder=folder)
        try:
            return process.communicate(timeout=seconds)[0].decode(), process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "", "hung"


def shrunk_program(seed, front, focus=(), package=""):
    """Return the smallest program that shows the difference of a play; empty if it takes too long."""
    return _ended(240, package, "--shrink", seed, front, *focus)[0]


def replayed(seed, front, focus=()):
    """Play a play once more; return its difference, or None."""
    output, status = _ended(_HANGS_S + 60, "", "--replay", seed, front, *focus)
    return f"the process ended with {status}" if status else json.loads(output)


def _play_until(seed, seconds, front, *focus):
    """Play, and write a line before and after each play."""
    from model import drawing

    counts, until, left = Pairs(), time.monotonic() + float(seconds), Leftovers()
    drawn = ((number, *drawing.play(number, front, focus)) for number in itertools.count(int(seed) * _CANDIDATES))
    drawn = (each for each in drawn if set(focus) <= each[2] | each[3])
    while time.monotonic() < until:
        # Of some candidates, the one with the most pairs that have not met.
        candidates = list(itertools.islice(drawn, 2 if focus else _CANDIDATES))
        number, given, features, operations = max(candidates, key=lambda each: counts.num_new(*each[2:]))
        line = {"seed": number, "front": front, "features": sorted(features), "operations": sorted(operations)}
        print(json.dumps(line), flush=True)
        counts.add(features, operations)
        faulthandler.dump_traceback_later(_HANGS_S, exit=True)
        error = found(given) or left.complaint()
        print(json.dumps({**line, "error": error}), flush=True)


class Leftovers:
    """Notices what plays leave: more than the first 30 plays did, after several plays in a row."""

    def __init__(self):
        self._most, self._num_plays, self._in_row = collections.Counter(), 0, 0

    def complaint(self):
        from model.playing import leftovers

        now = collections.Counter(leftovers())
        now["files"] //= 32  # a process keeps up to 17: of fork servers, threads and libraries
        self._num_plays += 1
        is_more = bool(now - self._most)
        self._in_row = self._in_row + 1 if is_more else 0
        if self._num_plays > 30 and not (self._in_row > 5 or now["workers"]):
            return None
        before, self._most, self._in_row = self._most, self._most | now, 0
        return f"left at the end: {dict(now)}, before: {dict(before)}" if self._num_plays > 30 else None


def found(given):
    """Return the difference that a play shows, or None."""
    error = _error_of(given)
    if error is None or hasattr(error, "program"):
        return error and str(error)
    return f"the model raised {type(error).__name__}: {error}\n{''.join(traceback.format_exception(error, limit=-3))}"


def _replay(seed, front, *focus):
    """Write the difference that a play shows, or null."""
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    print(json.dumps(found(_drawn(seed, front, focus))))


def _shrink(seed, front, *focus):
    """Write the smallest program that shows the difference of a play."""
    from model import shrinking

    first = _error_of(_drawn(seed, front, focus))
    if not hasattr(first, "program"):
        print(f'"""Seed {seed}, {front}: no difference when it was played again."""')
        return

    def fails(candidate):
        faulthandler.dump_traceback_later(_HANGS_S, exit=True)
        error = _error_of(candidate)
        return hasattr(error, "program") and _kind(error) == _kind(first)

    small = _error_of(shrinking.shrunk(_drawn(seed, front, focus), fails))  # a play changes its source
    print((small if hasattr(small, "program") else first).program)


def _drawn(seed, front, focus):
    from model import drawing

    return drawing.play(int(seed), front, focus)[0]


def _error_of(given):
    """Return what a play raises: a difference, which has a program, or an error of the model; None: nothing."""
    from model import playing

    try:
        playing.play(given)
    except Exception as error:
        return error
    return None


def _kind(difference):
    """Return the difference that a smaller play must show, too: an error of the same type, or another value."""
    lines = str(difference).splitlines()
    return [line.partition("raised")[2].partition(":")[0] for line in lines if line.startswith("    raised")]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    _, option, *values = sys.argv
    {"--play": _play_until, "--replay": _replay, "--shrink": _shrink}[option](*values)
