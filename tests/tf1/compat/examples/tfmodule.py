"""The module that the scripts use as ``tf``, named by the environment variable TF_MODULE."""

import importlib
import os

tf = importlib.import_module(os.environ["TF_MODULE"])
if os.environ["TF_MODULE"].split(".")[0] == "tensorflow":
    # Use graphs, sessions, and TF1's variables and Dimension objects. If only eager execution were disabled,
    # string_input_producer(match_filenames_once(...)) would fail, because its variable would be a TF2 variable.
    tf.disable_v2_behavior()
