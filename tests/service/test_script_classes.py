"""Batches of classes and functions of the server's script, in consumers of the same and of a different program."""

import pytest
from helpers.trainer_processes import ran

pytestmark = [pytest.mark.sample(1), pytest.mark.usefixtures("forked_trainers", "servers_directory")]

CONSUMER = """
import mpqueue
with mpqueue.attach("records", timeout=30) as consumer:
    batches = list(consumer)
records, kinds = zip(*((batch["record"], *(batch.keys() - {"record"})) for batch in batches))
print(len({type(record) for record in records}), len({*kinds}), [record.double() for record in records])
"""

SCRIPT = """
import enum, subprocess
from dataclasses import dataclass

def doubled(value):
    return 2 * value
class Kinds:
    class Kind(enum.Enum):
        EVEN = 0
@dataclass
class Record:
    value: int
    def double(self):
        return doubled(self.value)
class Records:
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return {"record": Record(index), Kinds.Kind.EVEN: np.zeros(3)}

def serve(**options):
    with mpqueue.Server("records", Records(), mode="broadcast", workers=2, max_queue_size=4, **options):
        say(subprocess.run([sys.executable, "-c", CONSUMER], check=True, capture_output=True, text=True).stdout.strip())
        with mpqueue.attach("records", timeout=30) as consumer:
            say({type(batch["record"]) is Record and Kinds.Kind.EVEN in batch for batch in consumer})
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_consumers_get_instances_of_one_class_of_the_script(method):
    said, output = ran(f"CONSUMER = '''{CONSUMER}'''\n{SCRIPT}\nserve(start_method={method!r})")
    assert said == ["1 1 [0, 2, 4, 6, 8, 10]", "{True}"]
    assert output == ""
