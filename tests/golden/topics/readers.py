"""Scripts of one reader and one queue of work units."""

import mpqueue
from golden.outcomes import Background, assert_error, assert_outcome, is_error
from golden.values import decode
from mpqueue import errors

DIFFERENCES = {
    "s059": "record_bytes=0 is refused, where TensorFlow gives empty records without end",
    "s060": "record_bytes=0 is refused, where TensorFlow gives empty records without end",
    "r029": "a GZIP file that is cut is data loss, where TensorFlow ends as if it were whole",
}
_CUT_SHORT = {"expect": {"error": "DataLossError", "when": "run"}, "counts": [1, 0, 0]}


def run(case, folder):
    if case["id"] == "readers/r029":
        steps = [step | _CUT_SHORT if is_error(step["expect"]) else step for step in case["steps"]]
        case = case | {"steps": steps}
    play(case, lambda: make_reader(case["reader"], mpqueue), Script)


def play(case, make, make_script):
    """Play the steps of a case, or compare the error of the reader's constructor."""
    expected = case.get("expect")
    try:
        reader = make()
    except Exception as error:
        refused_without_records(case["reader"], error, expected, case.get("steps", ()))
        return
    assert not is_error(expected), f"the reader was made, expected {expected!r}"
    assert case["reader"]["args"].get("record_bytes") != 0, "record_bytes=0 was taken"
    assert reader.supports_serialize == case["supports_serialize"]
    script = make_script(reader)
    for index, step in enumerate(case["steps"]):
        script.do(step, f"step {index} ({step['do']})")


def make_reader(document, module):
    args = dict(document["args"])
    if "compression" in args:
        kind = getattr(module.python_io.TFRecordCompressionType, args.pop("compression") or "NONE")
        args["options"] = module.python_io.TFRecordOptions(kind)
    return getattr(module, document["class"])(**{name: decode(value) for name, value in args.items()})


def refused_without_records(document, error, expected, steps):
    """Wrong arguments are refused when the reader is made; TensorFlow's kernel does so at the first use, or never."""
    if expected is not None:
        assert_error(error, expected, "the reader")
        return
    assert isinstance(error, errors.InvalidArgumentError), error
    if document["args"].get("record_bytes") == 0:
        return
    reads = [step["expect"] for step in steps if step["do"] not in ("enqueue", "close")]
    assert reads, f"the reader should have been made, it raised {error!r}"
    for read in reads:
        assert_error(error, read, "the first use")


class Script:
    """The reader and the queue of a case."""

    def __init__(self, reader):
        self.reader = reader
        self.queue = mpqueue.FIFOQueue(100, ["string"], [()])
        self.states = {}
        self.reading = None

    def do(self, step, where):
        if step["expect"] == {"blocked": True}:
            self.reading = Background(self.record, step)
            assert self.reading.is_blocked(), f"{where}: did not block"
        else:
            self.compare(getattr(self, f"do_{step['do']}", self.record), step, where)
        if step.get("counts"):
            records, units = self.reader.num_records_produced(), self.reader.num_work_units_completed()
            counts = [records, units, int(self.queue.size())]
            assert counts == step["counts"], f"{where}: counts {counts}, expected {step['counts']}"

    def compare(self, call, step, where):
        expected = step["expect"]
        if isinstance(expected, dict) and "key" in expected:
            expected = {"dict": expected}
        assert_outcome(call, expected, where, step)

    def record(self, step):
        if "n" in step:
            key, value = self.reader.read_up_to(self.queue, step["n"])
        else:
            key, value = self.reader.read(self.queue)
        return {"key": key, "value": value}

    def do_finish_read(self, step):
        return self.reading.finish()

    def do_enqueue(self, step):
        for name in step["names"]:
            self.queue.enqueue([name.encode("latin-1")])

    def do_close(self, step):
        self.queue.close()

    def do_reset(self, step):
        self.reader.reset()

    def do_serialize_state(self, step):
        self.states[step["name"]] = self.reader.serialize_state()

    def do_restore_state(self, step):
        self.reader.restore_state(self.states[step["name"]] if "name" in step else step["bytes"].encode("latin-1"))
