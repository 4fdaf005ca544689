"""Runs a script with a module in TensorFlow's place: ``python launch.py MODULE SCRIPT``. The script is not changed."""

import importlib
import runpy
import sys

module, script = sys.argv[1:]
tf = importlib.import_module(module)
tf.disable_v2_behavior()
sys.modules["tensorflow"] = tf
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
