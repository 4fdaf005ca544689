"""Other parts of TensorFlow that scripts use: files, flags, logging, versions.

Modules, from the lowest layer to the highest::

    texts.py       strings and bytes: tf.compat
    version.py     functions that distinguish TensorFlow 1 and 2
    summaries.py   tf.summary, which does not write
    log.py         tf.logging
    flags.py       tf.flags, based on absl-py, and tf.app.run
    gfile.py       files and directories: tf.gfile
"""
