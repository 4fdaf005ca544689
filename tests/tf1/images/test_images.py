"""The functions of `mpqueue.tf1.images` over arrays; the tests of compat compare them with TensorFlow."""

import io
import signal

import numpy as np
import pytest
from helpers.injected_exceptions import StruckException
from helpers.signal_handlers import handling, raising

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.images import files, resize

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4


def test_jpeg_round_trip_is_close_and_keeps_the_shape():
    written = files.encode_jpeg(IMAGE, quality=100, chroma_downsampling=False)
    assert files.jpeg_shape(written) == (4, 5, 3)
    assert np.abs(files.decode_jpeg(written).astype(int) - IMAGE).max() <= 3


@pytest.mark.parametrize("option", [{"format": "cmyk"}, {"density_unit": "feet"}])
def test_unknown_jpeg_format_or_unit_raises(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        files.encode_jpeg(IMAGE, **option)


def test_a_png_file_is_read_as_floats_from_0_to_1():
    assert np.allclose(files.decode_image(files.encode_png(IMAGE), dtype=np.float32), IMAGE / np.float32(255))


@pytest.mark.parametrize("decode", [files.decode_jpeg, files.decode_png, files.decode_gif, files.decode_bmp])
def test_data_that_is_not_an_image_raises(decode):
    with pytest.raises(InvalidArgumentError, match="Unknown image file format"):
        decode(b"no image")


def test_gif_file_cut_at_any_byte_is_an_error_of_its_data_or_has_whole_frames():
    Image = pytest.importorskip("PIL.Image")
    frames = [Image.fromarray(np.roll(IMAGE, number)) for number in range(3)]
    written = io.BytesIO()
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    problems = []
    for size in range(6, len(written.getvalue())):
        try:
            assert files.decode_gif(written.getvalue()[:size]).shape[1:] == IMAGE.shape
        except InvalidArgumentError as error:
            problems.append(error.message)
    assert problems
    assert {text.partition(":")[0] for text in problems} == {"Invalid GIF data"}


def test_image_that_is_too_wide_for_jpeg_raises():
    with pytest.raises(InvalidArgumentError, match="JPEG"):
        files.encode_jpeg(np.zeros((1, 70_000, 1), np.uint8))


@pytest.mark.parametrize("error", [StruckException, MemoryError])
def test_exception_of_a_signal_handler_is_not_an_error_of_the_file(monkeypatch, error):
    ImageFile = pytest.importorskip("PIL.ImageFile").ImageFile
    monkeypatch.setattr(ImageFile, "load", lambda _image: signal.raise_signal(signal.SIGUSR1))
    written = files.encode_jpeg(IMAGE)
    with handling(raising(error), signal.SIGUSR1), pytest.raises(error):
        files.decode_jpeg(written)


def between_all(images, size):
    """Return bilinear values by the formula, for every row and column."""
    for axis, want in enumerate(size, 1):
        have = images.shape[axis]
        places = np.arange(want, dtype=np.float32) * (np.float32(have) / np.float32(want))
        lower, upper = np.floor(places).astype(int), np.minimum(np.ceil(places), have - 1).astype(int)
        share = (places - lower).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(4)])
        low = images.take(lower, axis).astype(np.float32)
        images = low + (images.take(upper, axis).astype(np.float32) - low) * share
    return images


@pytest.mark.sample(5)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int32"])
@pytest.mark.parametrize("size", [(3, 4), (3, 20), (20, 4), (10, 9), (11, 10), (30, 40), (1, 1)])
def test_bilinear_values_match_the_formula_for_all_sizes(dtype, size):
    images = (np.random.default_rng(1).random((2, 21, 19, 3)) * 255).astype(dtype)
    before = images.copy()
    assert resize.bilinear(images, size).tobytes() == between_all(images, size).tobytes()
    assert np.array_equal(images, before)


@pytest.mark.parametrize("change", [resize.bilinear, resize.nearest_neighbor, resize.bicubic, resize.area])
def test_same_size_is_unchanged_and_size_0_raises(change):
    assert np.allclose(change(IMAGE[None], (4, 5)), IMAGE[None], atol=1e-4)
    with pytest.raises(InvalidArgumentError, match="must be positive"):
        change(IMAGE[None], (0, 5))
