"""decode_csv, decode_raw, decode_json_example, parse_example, parse_single_example: results and static shapes."""

from golden.decoding import arguments, check
from golden.values import assert_same

import mpqueue.compat.v1 as tf

DIFFERENCES = {
    "decode_csv/s069": "ValueError",  # TensorFlow's error class is accidental
    "decode_raw/s020": "TypeError",  # NumPy has no bfloat16
}


def run(case, folder):
    if case["id"] in DIFFERENCES:
        case = {**case, "expect": {"error": DIFFERENCES[case["id"]]}}
    args = arguments(case)
    with tf.Graph().as_default(), tf.Session() as session:

        def call():
            nodes = getattr(tf, case["op"])(**args)
            return nodes, session.run(nodes)

        check(case, call, check_result)


def check_result(got, expected):
    nodes, result = got
    for key, output in outputs_of(expected):
        value = result if key is None else result[key]
        assert_same(value, output, where=str(key))
    for key, shape in expected.get("static_shapes", {}).items():
        assert nodes[key].get_shape().as_list() == shape, key


def outputs_of(expected):
    if "parsed" in expected:
        return []  # the eager interpreter compares the contents of the strings
    if "output" in expected:
        return [(None, expected["output"])]
    outputs = expected["outputs"]
    return outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
