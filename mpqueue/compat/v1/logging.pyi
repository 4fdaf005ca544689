# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.program.log import DEBUG as DEBUG
from mpqueue.tf1.compat.program.log import ERROR as ERROR
from mpqueue.tf1.compat.program.log import FATAL as FATAL
from mpqueue.tf1.compat.program.log import INFO as INFO
from mpqueue.tf1.compat.program.log import WARN as WARN
from mpqueue.tf1.compat.program.log import flush as flush
from mpqueue.tf1.compat.program.log import get_verbosity as get_verbosity
from mpqueue.tf1.compat.program.log import log as log
from mpqueue.tf1.compat.program.log import log as vlog
from mpqueue.tf1.compat.program.log import log_every_n as log_every_n
from mpqueue.tf1.compat.program.log import log_first_n as log_first_n
from mpqueue.tf1.compat.program.log import log_if as log_if
from mpqueue.tf1.compat.program.log import set_verbosity as set_verbosity
from typing import Any

__all__ = [
    "DEBUG", "ERROR", "FATAL", "INFO", "WARN", "debug", "error", "fatal", "flush", "get_verbosity", "info", "log",
    "log_every_n", "log_first_n", "log_if", "set_verbosity", "vlog", "warn", "warning",
]  # fmt: skip

def debug(msg: Any, *args: Any, **kwargs: Any) -> None: ...
def error(msg: Any, *args: Any, **kwargs: Any) -> None: ...
def fatal(msg: Any, *args: Any, **kwargs: Any) -> None: ...
def info(msg: Any, *args: Any, **kwargs: Any) -> None: ...
def warn(msg: Any, *args: Any, **kwargs: Any) -> None: ...

warning = warn
