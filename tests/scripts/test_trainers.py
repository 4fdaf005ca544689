"""``scripts/trainers``: a trainer is killed and resumed with equal losses, and the guide shows the recorded results."""

import os

import pytest
from helpers.forked_programs import Interpreter
from helpers.script_modules import script

entries, killing, table = (script(f"parts.trainers.{name}") for name in ("entries", "killing", "table"))


def test_the_guide_shows_the_recorded_results():
    page = table.PAGE.read_text("utf-8")
    assert table.with_current_tables(page, table.load()) == page


# One program of the table; tests/frameworks proves the resumes of the other trainers.
@pytest.mark.timeout(900)  # on a busy machine the imports take minutes
def test_a_killed_trainer_of_accelerate_resumes_with_equal_losses(tmp_path):
    entry = entries.ENTRIES["accelerate: map-style, stateful"]
    if entry.missing():
        pytest.skip(f"{', '.join(entry.missing())} is not installed; scripts/trainers runs it")

    def start(entry, task, output):
        _, _, module, *arguments = entry.command(task.part)
        code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        with open(os.devnull) as nothing:
            return interpreter.start(
                code, [killing.SCRIPTS / module, *arguments, killing.argument_of(task)],
                {0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()}, folder=killing.SCRIPTS,
                environ=killing.environment_of(entry), new_session=True,
            )  # fmt: skip

    # Each part is a fork: without pyarrow's thread, which pandas starts, and with one import of torch.
    environ = os.environ | {"USE_TF": "0", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    with Interpreter("accelerate", "torch._dynamo", environ=environ) as interpreter:
        (found,) = killing.played(entry, "mpqueue", tmp_path, seeds=[3], number=1, start=start)
    assert str(found).endswith("losses equal to the bit")
