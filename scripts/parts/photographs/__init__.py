"""Small JPEG files of real photographs, and batches of them: the workload of the demo and of the benchmark's "decode".

From the bottom layer up; a module imports only from its own line and the lines above it::

    cut.py       crops the files from the photographs inside two wheels, once, into a cache
    dataset.py   the training files and the held-out files, and batches of them: decode, crop, flip, jitter, normalise
"""
