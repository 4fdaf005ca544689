"""Scripts with one reader and one queue of work units."""

from golden.outcomes import is_error
from golden.topics import readers
from golden.topics.readers import refused_without_records
from golden.values import decode

import mpqueue.compat.v1 as tf

NAMES = ("num_records_produced", "num_work_units_completed", "reset", "serialize_state")


def run(case, folder):
    expected = case.get("expect")
    with tf.Graph().as_default(), tf.Session() as session:
        try:
            reader = make_reader(case["reader"])
            session.run(reader.reader_ref)
        except Exception as error:
            refused_without_records(case["reader"], error, expected, case.get("steps", ()))
            return
        assert not is_error(expected), f"the reader was made, expected {expected!r}"
        assert reader.supports_serialize == case["supports_serialize"]
        script = Script(reader, session)
        for number, step in enumerate(case["steps"]):
            script.do(step, f"step {number} ({step['do']})")


def make_reader(document):
    args = dict(document["args"])
    if "compression" in args:
        kind = getattr(tf.python_io.TFRecordCompressionType, args.pop("compression") or "NONE")
        args["options"] = tf.python_io.TFRecordOptions(kind)
    return getattr(tf, document["class"])(**{name: decode(value) for name, value in args.items()})


class Script(readers.Script):
    """The same steps on nodes."""

    def __init__(self, reader, session):
        queue = tf.FIFOQueue(100, [tf.string], [()])
        self.reader, self.queue = Run(reader, session), Run(queue, session)
        self.reader_node, self.queue_node, self.session = reader, queue, session
        self.states = {}
        self.reading = None

    def record(self, step):
        if "n" in step:
            key, value = self.session.run(self.reader_node.read_up_to(self.queue_node, step["n"]))
        else:
            key, value = self.session.run(self.reader_node.read(self.queue_node))
        return {"key": key, "value": value}


class Run:
    """Call a method that creates nodes, and run them."""

    def __init__(self, maker, session):
        self._maker, self._session = maker, session

    def __getattr__(self, name):
        return lambda *args, **options: self._session.run(getattr(self._maker, name)(*args, **options))
