"""Small JPEG files of real photographs, and batches of them: the work of the demo and of the benchmark's "decode".

From the ground up; a module imports only from its own line and the lines above it::

    cut.py       cuts the files out of the photographs inside two wheels, once, into a cache
    dataset.py   the files to train on and those held out
    decode.py    one batch: open, decode, crop, flip, jitter, normalise
"""
