"""Those who were attached to a server that died, as the next one waits for them."""

import subprocess

from helpers.service_simulation import Simulation

from mpqueue.service.admission import Admission
from mpqueue.service.handlers import Handlers
from mpqueue.service.journal import Survivor, started_at
from mpqueue.service.rules import Rules


def test_the_end_of_a_process_with_two_consumers_is_seen_once():
    with subprocess.Popen(["sleep", "600"]) as process:
        handlers = Handlers()
        core = Simulation(Rules(mode="split"), [1]).core
        admission = Admission(core, None, "job", None, -1)  # type: ignore[arg-type]  # nobody attaches
        survivor = Survivor(process.pid, started_at(process.pid))
        admission.await_survivors([survivor, survivor], handlers, 60.0)
        assert core.awaited == {process.pid}
        process.kill()
        handlers.wait(60.0)
        assert core.awaited == set()
        admission.close(handlers)
        handlers.close()
