"""The functions of `mpqueue.images` over arrays; that they compute what TensorFlow does, the tests of compat show."""

import numpy as np
import pytest

from mpqueue.errors import InvalidArgumentError
from mpqueue.images import colour, files, resize

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_file_gives_back_what_was_written(dtype, channels):
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (4, 5, channels), dtype)
    read = files.decode_png(files.encode_png(image), dtype=dtype)
    assert read.dtype == dtype
    assert np.array_equal(read, image)


def test_a_jpeg_file_tells_its_shape_and_gives_nearly_what_was_written():
    written = files.encode_jpeg(IMAGE, quality=100, chroma_downsampling=False)
    assert files.jpeg_shape(written) == (4, 5, 3)
    assert np.abs(files.decode_jpeg(written).astype(int) - IMAGE).max() <= 3


@pytest.mark.parametrize("option", [{"format": "cmyk"}, {"density_unit": "feet"}])
def test_another_format_or_unit_of_a_jpeg_file_is_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        files.encode_jpeg(IMAGE, **option)


def test_a_png_file_is_read_as_floats_from_0_to_1():
    assert np.allclose(files.decode_image(files.encode_png(IMAGE), dtype=np.float32), IMAGE / np.float32(255))


@pytest.mark.parametrize("decode", [files.decode_jpeg, files.decode_png, files.decode_gif, files.decode_bmp])
def test_what_is_no_image_is_refused(decode):
    with pytest.raises(InvalidArgumentError, match="unknown image file format"):
        decode(b"no image")


@pytest.mark.parametrize("change", [resize.bilinear, resize.nearest_neighbor, resize.bicubic, resize.area])
def test_the_same_size_changes_no_pixel_and_a_size_of_0_is_refused(change):
    assert np.allclose(change(IMAGE[None], (4, 5)), IMAGE[None], atol=1e-4)
    with pytest.raises(InvalidArgumentError, match="must be positive"):
        change(IMAGE[None], (0, 5))


def test_colours_come_back_from_hue_saturation_and_value():
    floats = IMAGE.astype(np.float32) / 255
    assert np.allclose(colour.hsv_to_rgb(colour.rgb_to_hsv(floats)), floats, atol=1e-6)


def test_a_whole_turn_of_the_hue_changes_no_colour():
    floats = IMAGE.astype(np.float32) / 255
    assert np.allclose(colour.adjust_hue(floats, 1), floats, atol=1e-5)
