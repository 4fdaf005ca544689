"""The module that the scripts use as ``tf``: the one named in the environment variable TF_MODULE."""

import importlib
import os

tf = importlib.import_module(os.environ["TF_MODULE"])
if os.environ["TF_MODULE"].split(".")[0] == "tensorflow":
    # Graphs and sessions, and with them TF1's variables and Dimension objects: without eager execution alone
    # string_input_producer(match_filenames_once(...)) would fail, for its variable would be of the new kind.
    tf.disable_v2_behavior()
