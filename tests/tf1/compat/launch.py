"""Run an unchanged script with `mpqueue.compat.v1` in place of TensorFlow: ``python launch.py SCRIPT``.

With the environment variable RECORD_BY_RECORD, mpqueue does not use runs of records.
"""

import importlib
import os
import runpy
import sys

import mpqueue.compat.v1 as tf

if "RECORD_BY_RECORD" in os.environ:
    importlib.import_module("mpqueue.tf1.compat.train.runners").record_plan = lambda _plan: None
tf.disable_v2_behavior()
sys.modules["tensorflow"] = tf
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
