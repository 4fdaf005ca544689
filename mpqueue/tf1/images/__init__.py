"""Image files and operations as in TensorFlow 1, implemented with NumPy and Pillow (extra ``[files]``).

An image has the shape (height, width, channels). Modules, from the lowest layer to the highest::

    png16.py     PNG files with several channels of 16 bits
    files.py     JPEG, PNG, GIF and BMP files
    resize.py    resizing
    colour.py    contrast, hue, saturation, and color spaces
"""
