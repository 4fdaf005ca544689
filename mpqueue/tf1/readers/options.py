"""Compression of TFRecord files."""

import zlib
from typing import ClassVar


class TFRecordCompressionType:
    """Kinds of compression of a TFRecord file.

    Follows: ``tf.compat.v1.python_io.TFRecordCompressionType``.
    """

    NONE = 0
    ZLIB = 1
    GZIP = 2


class TFRecordOptions:
    """Compression settings of a TFRecord file.

    Args:
        compression_type: "GZIP", "ZLIB", "" or None; or a `TFRecordCompressionType`; or other options.
        flush_mode: No effect.
        input_buffer_size: No effect.
        output_buffer_size: No effect.
        window_bits: zlib's window size, 9 to 15. More memory compresses better.
        compression_level: zlib's compression level, 0 (none) to 9 (best and slowest).
        compression_method: No effect; there is only one method.
        mem_level: zlib's memory level, 1 to 9. More memory compresses faster.
        compression_strategy: zlib's compression strategy.

    Raises:
        ValueError: ``compression_type`` is not supported.

    Follows: ``tf.io.TFRecordOptions``.
    """

    compression_type_map: ClassVar[dict[int, str]] = {
        TFRecordCompressionType.ZLIB: "ZLIB",
        TFRecordCompressionType.GZIP: "GZIP",
        TFRecordCompressionType.NONE: "",
    }

    def __init__(
        self,
        compression_type: "TFRecordOptions | str | int | None" = None,
        flush_mode: int | None = None,
        input_buffer_size: int | None = None,
        output_buffer_size: int | None = None,
        window_bits: int | None = None,
        compression_level: int | None = None,
        compression_method: int | None = None,
        mem_level: int | None = None,
        compression_strategy: int | None = None,
    ) -> None:
        self.get_compression_type_string(compression_type)
        self.compression_type = compression_type
        self.flush_mode = flush_mode
        self.input_buffer_size, self.output_buffer_size = input_buffer_size, output_buffer_size
        self.window_bits, self.mem_level = window_bits, mem_level
        self.compression_level, self.compression_method = compression_level, compression_method
        self.compression_strategy = compression_strategy

    @classmethod
    def get_compression_type_string(cls, options: "TFRecordOptions | str | int | None") -> str:
        """Return "GZIP", "ZLIB" or "".

        Args:
            options: A `TFRecordOptions`, the name of a compression, a member of `TFRecordCompressionType`, or None.

        Raises:
            ValueError: ``options`` is not a valid compression.
        """
        if isinstance(options, TFRecordOptions):
            return cls.get_compression_type_string(options.compression_type)
        kind = cls.compression_type_map.get(options or 0) if not isinstance(options, str) else options
        if kind not in cls.compression_type_map.values():
            raise ValueError(f"compression must be 'GZIP', 'ZLIB', '' or a TFRecordCompressionType, got {options!r}.")
        return str(kind)

    def compressor(self) -> "zlib._Compress | None":
        """Return a compressor with these settings, or None without compression.

        Raises:
            ValueError: zlib rejects a setting.
        """
        kind = self.get_compression_type_string(self)
        if not kind:
            return None
        bits = zlib.MAX_WBITS if self.window_bits is None else self.window_bits
        return zlib.compressobj(
            zlib.Z_DEFAULT_COMPRESSION if self.compression_level is None else self.compression_level,
            zlib.DEFLATED,
            bits | 16 if kind == "GZIP" else bits,
            zlib.DEF_MEM_LEVEL if self.mem_level is None else self.mem_level,
            zlib.Z_DEFAULT_STRATEGY if self.compression_strategy is None else self.compression_strategy,
        )
