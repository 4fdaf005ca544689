"""TensorFlow's Example and SequenceExample messages, built by the protobuf library from the description below.

They are in a separate descriptor pool, because they have TensorFlow's names. If the process also imports TensorFlow,
the default pool would contain two definitions of each message, which is an error in protobuf.
"""

from typing import Any

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
except ImportError as error:
    raise ImportError('mpqueue.train.Example needs protobuf: pip install "mpqueue[tfrecord]"') from error

# Fields of each message in the order of their numbers: type, and REPEATED, MAP, or KIND for members of the oneof
# "kind".
_REPEATED, _MAP, _KIND = "repeated", "map", "kind"
_MESSAGES = {
    "BytesList": {"value": ("bytes", _REPEATED)},
    "FloatList": {"value": ("float", _REPEATED)},
    "Int64List": {"value": ("int64", _REPEATED)},
    "Feature": {
        "bytes_list": ("BytesList", _KIND),
        "float_list": ("FloatList", _KIND),
        "int64_list": ("Int64List", _KIND),
    },
    "Features": {"feature": ("Feature", _MAP)},
    "Example": {"features": ("Features", "")},
    "FeatureList": {"feature": ("Feature", _REPEATED)},
    "FeatureLists": {"feature_list": ("FeatureList", _MAP)},
    "SequenceExample": {"context": ("Features", ""), "feature_lists": ("FeatureLists", "")},
}
_PACKAGE = "tensorflow"
_Field = descriptor_pb2.FieldDescriptorProto


def _described(syntax: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="mpqueue/example.proto", package=_PACKAGE, syntax=syntax)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if any(rule == _KIND for _, rule in fields.values()):
            message.oneof_decl.add(name=_KIND)
        for number, (field, (value, rule)) in enumerate(fields.items(), start=1):
            type_name = _add_map_entry(message, field, value) if rule == _MAP else value
            _add_field(message, field, number, type_name, rule)
    return file


def _add_map_entry(message: descriptor_pb2.DescriptorProto, field: str, type_name: str) -> str:
    """Add the message for a map's entries. Protobuf derives its name from the field's name."""
    entry = message.nested_type.add(name="".join(part.capitalize() for part in field.split("_")) + "Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string", "")
    _add_field(entry, "value", 2, type_name, "")
    return f"{message.name}.{entry.name}"


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, type_name: str, rule: str) -> None:
    many = rule in (_REPEATED, _MAP)
    field = message.field.add(name=name, number=number, label=_Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL)
    if type_name[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{type_name.upper()}")
    if rule == _KIND:
        field.oneof_index = 0


def _made(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    made.__module__ = __name__  # where pickle finds it
    made.__doc__ = f"TensorFlow's message ``tf.train.{name}``, with the methods of every message of protobuf."
    return made


def filled(message: Any, fields: dict[str, Any]) -> Any:
    """Set the fields of a message from a JSON object, and return the message.

    Raises:
        ValueError: The object does not describe such a message.
    """
    try:
        return json_format.ParseDict(fields, message)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from None


def _pool_of(syntax: str) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_described(syntax).SerializeToString())
    return pool


_pool = _pool_of("proto3")

BytesList = _made(_pool, "BytesList")
FloatList = _made(_pool, "FloatList")
Int64List = _made(_pool, "Int64List")
Feature = _made(_pool, "Feature")
Features = _made(_pool, "Features")
Example = _made(_pool, "Example")
FeatureList = _made(_pool, "FeatureList")
FeatureLists = _made(_pool, "FeatureLists")
SequenceExample = _made(_pool, "SequenceExample")

UnpackedExample = _made(_pool_of("proto2"), "Example")
"""An Example that serializes a list of numbers as one field for each of them."""

__all__ = list(_MESSAGES)
