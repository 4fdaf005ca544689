"""Images as arrays, as TensorFlow 1 reads, writes and changes them; by NumPy, and files by Pillow (extra ``[image]``).

An image has the shape (height, width, channels). From the ground up::

    png16.py     PNG files of 16 bits in each of several channels
    files.py     JPEG, PNG, GIF and BMP files
    resize.py    other sizes
    colour.py    contrast, hue, saturation; other spaces of colours
"""
