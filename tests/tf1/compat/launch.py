"""Run unchanged scripts with a module in place of TensorFlow.

``python launch.py MODULE SCRIPT`` runs one script. ``python launch.py MODULE`` imports the module, prints "ready", and
runs each script in a fork. A line of JSON on stdin has the path of the script, its directory WORK, and its output file;
the exit status is printed as a line on stdout. Importing TensorFlow takes seconds, but a fork only some milliseconds,
as long as it has not run a graph. With the environment variable RECORD_BY_RECORD, mpqueue does not use runs of records.
"""

import importlib
import json
import os
import runpy
import sys
import traceback

module, *script = sys.argv[1:]
tf = importlib.import_module(module)
if "RECORD_BY_RECORD" in os.environ:
    importlib.import_module("mpqueue.tf1.compat.train.runners").record_plan = lambda _plan: None
tf.disable_v2_behavior()
sys.modules["tensorflow"] = tf


def run(path):
    sys.argv = [path]
    runpy.run_path(path, run_name="__main__")


def run_and_leave(order):
    """Run a script in a fork and exit without joining TensorFlow's threads, which do not exist after the fork."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    status = 1
    try:
        os.environ["WORK"] = order["work"]
        run(order["script"])
        status = 0
    except SystemExit as leaving:
        status = 0 if leaving.code is None else leaving.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if script:
    run(script[0])
else:
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run_and_leave(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
