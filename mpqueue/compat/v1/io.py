"""The names of ``tf.io``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.decoding": "decode_csv decode_json_example decode_raw",
        "mpqueue.compat.functions.files": "matching_files read_file",
        "mpqueue.compat.functions.image_files": (
            "decode_bmp decode_gif decode_image decode_jpeg decode_png encode_jpeg encode_png extract_jpeg_shape "
            "is_jpeg"
        ),
        "mpqueue.compat.functions.parsing": "parse_example parse_single_example parse_single_sequence_example",
        "mpqueue.compat.functions.queue_base": "QueueBase",
        "mpqueue.compat.functions.queues": "FIFOQueue PaddingFIFOQueue RandomShuffleQueue",
        "mpqueue.compat.functions.text": "decode_base64 encode_base64",
        "mpqueue.compat.train.epochs": "match_filenames_once",
        "mpqueue.parsing.features": "FixedLenFeature FixedLenSequenceFeature VarLenFeature",
        "mpqueue.python_io": "TFRecordCompressionType TFRecordOptions TFRecordWriter tf_record_iterator",
    },
    prefix="tf.io",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
