"""The command ``mpqueue serve``: a server in a process of its own, until a signal ends it.

It prints the folder of the server when consumers can attach; with ``--json`` its name and process id, too. SIGTERM and
SIGINT stop it; the exit status is then 0, or 128 and the signal's number where the stop has failed. It is 1 where the
factory or the server has failed, with a traceback or a message, and 2 where the command line is wrong.
"""

import argparse
import os
import pwd
import signal
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

from mpqueue.commands import frame
from mpqueue.commands.factories import NotFound, source_of
from mpqueue.errors import ServiceError
from mpqueue.service.modes import MODES
from mpqueue.service.server import Server

_EXAMPLES = """\
examples:
  mpqueue serve data.py:Photos --name photos --world 4 --workers 8 --shuffle --seed 1
  mpqueue serve mypackage.data:make_photos --name photos --mode broadcast

In each trainer: mpqueue.attach("photos", rank=0).
SIGTERM and Ctrl-C stop the server."""
_SAME_S = 1.0  # within, a second signal is taken for the first: wrappers pass on what the terminal has sent to all


class _Asked(BaseException):
    """A signal asks to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Signals:
    """A context in which the first SIGTERM or SIGINT raises `_Asked`, and one that comes later ends the process."""

    def __init__(self) -> None:
        self._asked_at: float | None = None

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            raise _Asked(number)
        if now - self._asked_at > _SAME_S:
            os._exit(128 + number)  # the workers end with this process


def main(arguments: Sequence[str]) -> int:
    """Serve, until a signal comes; return the exit status."""
    made: list[Server] = []
    with _Signals():
        try:
            return _serve(arguments, made)
        except _Asked as asked:
            return _stop(made, 128 + asked.number)


def _serve(arguments: Sequence[str], made: list[Server]) -> int:
    parser = make_parser()
    options = vars(parser.parse_args(arguments))
    is_json = options.pop("json")
    try:
        server = _make(parser, options.pop("name"), options.pop("factory"), options)
        made.append(server)
        server.start()
        if is_json:
            frame.print_json({"folder": server.folder, "name": server.name, "pid": os.getpid()}, is_line=True)
        else:
            print(server.folder, flush=True)
        server.wait()
    except ServiceError as error:
        frame.tell("serve", str(error))
    except Exception:
        traceback.print_exc()
    else:
        return _stop(made, 1)
    return _stop(made, 1) or 1


def _make(parser: argparse.ArgumentParser, name: str, factory: str | None, options: dict[str, Any]) -> Server:
    try:
        source = None if factory is None else source_of(factory)
    except NotFound as error:
        parser.error(str(error))
    try:
        return Server(name, source, **options)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def _stop(made: list[Server], failed: int) -> int:
    """Stop the server, if there is one; return 0, or ``failed`` if that has failed."""
    try:
        for server in made:
            server.stop()
    except Exception:
        traceback.print_exc()
        return failed
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; options that are not given are absent, so that the server's own defaults hold."""
    parser = frame.make_parser(
        "serve",
        "Serve the batches of one source to all trainers of this host that attach.",
        _EXAMPLES,
        usage="mpqueue serve [MODULE:FACTORY | FILE.py:FACTORY] --name NAME [options]",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("factory", nargs="?", default=None, metavar="FACTORY",
        help="what makes the source, called without arguments; or a generator function; none: queues only")  # fmt: skip
    add("--name", required=True, help="by which consumers find it, or the path of a folder (with a slash in it)")
    add("--mode", choices=tuple(MODES), help="each batch to one consumer (default), or to all")
    add("--world", type=int, help="ranks among which batches are split; broadcast: consumers to wait for")
    add("--slow", choices=("wait", "skip", "detach"), help="what becomes of a consumer that others wait for")
    add("--grace-s", type=float, help="seconds for which the place of a rank that died waits")
    add("--lease-timeout", type=float, help="seconds after which a silent consumer that has batches is cut off")
    add("--journal", metavar="FILE", help="keeps what was taken, so that a new server goes on there")
    add("--allow-uids", type=_uids, metavar="USER,...", help="users who may attach beside this one: ids or names")
    _add_options_of_loader(parser.add_argument_group("how batches are made (as of mpqueue.Loader)"))
    return parser


def _add_options_of_loader(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--workers", type=int, help="worker processes (default: one per CPU)")
    add("--max-queue-size", type=int, help="batches computed ahead")
    add("--seed", type=int, help="of shuffled orders and random numbers")
    add("--shuffle", action="store_true", help="a new order for every epoch")
    add("--batch-size", type=int, help="samples of a batch (default: an item is a batch)")
    add("--drop-last", action="store_true", help="leave out a last batch that is short")
    add("--unordered", dest="ordered", action="store_false", help="batches as they are ready")
    add("--on-error", choices=("raise", "skip"), help="what an exception of the source does")
    add("--max-errors", type=int, help="skipped samples of an epoch that are too many")
    add("--lanes", type=int, help="parts of a stream, from which its order follows")
    add("--epoch-batches", type=int, help="batches of an epoch of a stream that never ends, on each rank")
    add("--threads", type=int, help="threads of a worker that compute the samples of a batch")
    add("--restarts", type=int, help="workers that may die over one batch")
    add("--batch-timeout", type=float, help="seconds that one batch may take")
    add("--max-batch-bytes", type=int, help="a larger batch is an error")
    add(
        "--backend",
        choices=("process", "ray"),
        help="worker processes here (default), or on the nodes of a Ray cluster",
    )
    add("--trace", metavar="FILE.json", help="write a timeline: mpqueue trace, or Perfetto, shows it")
    add("--start-method", metavar="{forkserver,fork,spawn}", help="how workers are started")


def _uids(text: str) -> tuple[int, ...]:
    return tuple(_uid(part.strip()) for part in text.split(","))


def _uid(user: str) -> int:
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {user!r}: give names or ids, with commas between") from None
