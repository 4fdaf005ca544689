"""The command ``mpqueue serve``: runs a server in a separate process, until a signal ends it.

It prints the folder of the server when consumers can attach; with ``--json`` also its name and process id. On a
terminal, it shows its rates and consumers, in one live line with tqdm. SIGTERM and SIGINT stop it. The exit status is
then 0, or 128 plus the number of the signal if the stop has failed. It is 1 if the factory or the server has failed,
with a traceback or a message, and 2 for invalid arguments.
"""

import argparse
import json
import os
import pwd
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

from mpqueue.commands import frame
from mpqueue.commands.factories import NotFound, source_of
from mpqueue.commands.loader_options import add_loader_options
from mpqueue.errors import ServiceError
from mpqueue.service.routing.modes import MODES
from mpqueue.service.serving.reports import ServerStatistics
from mpqueue.service.serving.server import Server
from mpqueue.system.units import rate_text, size_text
from mpqueue.system.user_code.extras import is_installed
from mpqueue.telemetry.bars import bar_class

_EXAMPLES = """\
examples:
  mpqueue serve data.py:Photos --name photos --world 4 --workers 8 --shuffle --seed 1
  mpqueue serve mypackage.data:make_photos --name photos --mode broadcast

In each trainer: mpqueue.attach("photos", rank=0).
SIGTERM and Ctrl-C stop the server."""
_LIVE_S, _PLAIN_S = 1.0, 10.0  # between two updates of the live line, and between two lines without tqdm
_SAME_S = 1.0  # a signal repeated within this time is ignored: wrappers forward signals of the terminal


class _StopSignal(BaseException):
    """A signal requests a stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Signals:
    """A context manager: the first SIGTERM or SIGINT raises `_StopSignal`, and a later one ends the process."""

    def __init__(self) -> None:
        self._stopped_at: float | None = None

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._stopped_at is None:
            self._stopped_at = now
            # A BaseException: the factory and the source may catch `Exception`, and would ignore the request.
            raise _StopSignal(number)
        if now - self._stopped_at > _SAME_S:
            # The stop may hang in user code, so a second request does not wait for it.
            os._exit(128 + number)  # the workers end with this process


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal arrives, and return the exit status."""
    # Filled by `_serve`: the exception of the handler may be raised anywhere, and the server must be found after it.
    made: list[Server] = []
    with _Signals():
        try:
            return _serve(arguments, made)
        except _StopSignal as stop_signal:
            return _stop(made, 128 + stop_signal.number)


def _serve(arguments: Sequence[str], made: list[Server]) -> int:
    parser = make_parser()
    options = vars(parser.parse_args(arguments))
    is_json, name, factory = options.pop("json"), options.pop("name"), options.pop("factory")
    try:
        server = _make(parser, name, factory, options)
        made.append(server)
        server.start()
        if is_json:
            frame.print_json({"folder": server.folder, "name": server.name, "pid": os.getpid()}, is_line=True)
        else:
            print(server.folder, flush=True)
        _wait(server)
    except ServiceError as error:
        frame.tell("serve", str(error))
    except Exception:
        traceback.print_exc()
        frame.tell("serve", "the server has failed" if made else f"{factory} has failed")
    else:
        return _stop(made, 1)
    return _stop(made, 1) or 1


def _wait(server: Server) -> None:
    """Wait until a server has stopped; on a terminal, show its rates and consumers."""
    if not sys.stderr.isatty():
        server.wait()
        return
    is_live = is_installed("tqdm")
    line = bar_class()(bar_format="{desc}", file=sys.stderr, dynamic_ncols=True) if is_live else None
    before = server.statistics()
    while not server.wait(_LIVE_S if is_live else _PLAIN_S):
        now = server.statistics()
        if line is None:
            frame.tell("serve", _rates(now - before))
        else:
            line.set_description_str(_rates(now - before))
        before = now
    if line is not None:
        line.close()


def _rates(latest: ServerStatistics) -> str:
    """Return the activity of a server and its consumers since the line before."""
    consumers = [
        f"{f'consumer {each.number}' if each.rank is None else f'rank {each.rank}'}: {rate_text(each.batches_per_s)}/s"
        for each in latest.consumers
    ]
    size = f"{size_text(latest.bytes_per_s)}/s"
    return f"{rate_text(latest.batches_per_s)} batches/s, {size}; {', '.join(consumers) or 'no consumer is attached'}"


def _make(parser: argparse.ArgumentParser, name: str, factory: str, options: dict[str, Any]) -> Server:
    try:
        source = source_of(factory)
    except NotFound as error:
        parser.error(str(error))
    try:
        return Server(name, source, **options)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def _stop(made: list[Server], failed: int) -> int:
    """Stop the server, if there is one; return 0, or ``failed`` if the stop fails."""
    try:
        for server in made:
            server.stop()
    except Exception:
        traceback.print_exc()
        return failed
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. Options that are not passed are absent, so that the server's own defaults apply."""
    parser = frame.make_parser(
        "serve",
        "Serve the batches of one source to all trainers on this host that attach.",
        _EXAMPLES,
        usage="mpqueue serve MODULE:FACTORY|FILE.py:FACTORY --name NAME [options]",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("factory", metavar="FACTORY", help="callable that makes the source, or a generator function")
    add("--name", required=True, help="name for consumers to attach to, or the path of a folder (containing a slash)")
    add("--mode", choices=tuple(MODES), help="each batch to one consumer (default), or to all")
    add("--world", type=int, help="split: number of ranks; broadcast: number of consumers to wait for")
    add("--slow", choices=("wait", "skip", "detach"), help="what happens to a consumer that others wait for")
    add("--grace-s", type=float, help="seconds to reserve the place of a rank that exited unexpectedly")
    add("--lease-timeout", type=float, help="seconds after which a silent consumer with batches is disconnected")
    add("--journal", metavar="FILE", help="file that records which batches were taken, so that a new server continues")
    add("--exclude", type=_ids, metavar="FILE.json", help="file with a list of the ids of samples to leave out")
    add("--allow-uids", type=_uids, metavar="USER,...", help="other users who may attach: ids or names")
    add_loader_options(parser)
    return parser


def _ids(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} is no JSON file that can be read: {error}") from None


def _uids(text: str) -> tuple[int, ...]:
    return tuple(_uid(part.strip()) for part in text.split(","))


def _uid(user: str) -> int:
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"user {user!r} does not exist: pass names or ids, separated by commas"
        ) from None
