"""The package's logger: an interrupt leaves no lock of `logging` locked."""

import logging
import signal

import pytest
from helpers.injected_exceptions import Struck
from helpers.signal_handlers import handling, raising

from mpqueue.system import log


@pytest.mark.parametrize("call", [log.debugs, lambda: log.debug("said"), lambda: log.warn("said")])
def test_handler_that_raises_is_deferred_during_logging(call, monkeypatch, caplog):
    get_logger, ended = logging.getLogger, []

    def struck_inside(name):
        signal.raise_signal(signal.SIGUSR1)
        found = get_logger(name)
        ended.append(name)
        return found

    caplog.set_level(logging.DEBUG, "mpqueue")
    with handling(raising(Struck), signal.SIGUSR1), monkeypatch.context() as patched, pytest.raises(Struck):
        patched.setattr(logging, "getLogger", struck_inside)
        call()
    assert ended == ["mpqueue"]
