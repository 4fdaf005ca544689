"""The parts of TensorFlow that scripts use besides nodes: files, flags, messages, settings.

From the ground up::

    texts.py       text and bytes: tf.compat
    settings.py    ConfigProto and its kin, and what tells TensorFlow 1 and 2 apart
    summaries.py   tf.summary, of which nothing is written
    log.py         tf.logging
    flags.py       tf.flags, over absl-py, and tf.app.run
    gfile.py       files and folders: tf.gfile
"""
