"""A program with command-line settings and log messages; prints its settings."""

import json
import sys

import tensorflow as tf

flags = tf.app.flags
flags.DEFINE_string("data_dir", "/tmp/data", "Folder of the data.")
flags.DEFINE_integer("batch_size", 128, "Examples per batch.", lower_bound=1)
flags.DEFINE_float("rate", 0.1, "Learning rate.")
flags.DEFINE_boolean("use_fp16", False, "Train with half floats.")
flags.DEFINE_bool("shuffle", True, "Shuffle.")
flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
flags.DEFINE_list("hosts", ["a", "b"], "Names.")
flags.DEFINE_multi_integer("layer", [1], "Sizes.")
flags.DEFINE_string(flag_name="old", default_value="value", docstring="Old names of parameters.")
FLAGS = flags.FLAGS

seen = {}


def kind_of(action):
    try:
        action()
    except flags.IllegalFlagValueError:
        return "illegal"
    except flags.DuplicateFlagError:
        return "duplicate"
    except flags.Error:
        return "other"
    except AttributeError:
        return "attribute"
    return "nothing"


def main(argv):
    seen["argv"] = argv[1:]
    seen["values"] = [
        FLAGS.data_dir,
        FLAGS.batch_size,
        FLAGS.rate,
        FLAGS.use_fp16,
        FLAGS.shuffle,
        FLAGS.mode,
        FLAGS.old,
    ]
    seen["lists"] = [FLAGS.hosts, FLAGS.layer]
    FLAGS.batch_size = 64
    seen["set"] = [FLAGS.batch_size, FLAGS["batch_size"].default, "rate" in FLAGS, FLAGS.is_parsed()]
    seen["flag_values"] = FLAGS.flag_values_dict()["data_dir"]
    seen["errors"] = [
        kind_of(lambda: FLAGS.nothing),
        kind_of(lambda: setattr(FLAGS, "nothing", 1)),
        kind_of(lambda: flags.DEFINE_integer("rate", 1, "Again.")),
        kind_of(lambda: FLAGS(["program", "--batch_size=many"])),
        kind_of(lambda: FLAGS(["program", "--batch_size=0"])),
        kind_of(lambda: FLAGS(["program", "--mode=test"])),
        kind_of(lambda: FLAGS(["program", "--rate"])),
    ]
    tf.logging.set_verbosity(tf.logging.WARN)
    seen["levels"] = [tf.logging.DEBUG, tf.logging.INFO, tf.logging.WARN, tf.logging.ERROR, tf.logging.FATAL]
    seen["verbosity"] = tf.logging.get_verbosity()
    tf.logging.info("not %s", "shown")
    print(json.dumps(seen))


if __name__ == "__main__":
    sys.argv += (
        "--data_dir=/data --batch_size 32 -rate=0.5 --use_fp16 --noshuffle first --mode=eval --hosts=x,y".split()
    )
    sys.argv += "--layer=3 --layer 4 --unknown=5 second -- --rate=9".split()
    tf.app.run()
