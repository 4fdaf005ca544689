"""CSV records to columns."""

import mpqueue
from golden.decoding import arguments, check, check_outputs

DIFFERENCES = {
    "s069": "an empty select_cols is a ValueError that says so, where TensorFlow indexes an empty list by accident",
}


def run(case, folder):
    args = arguments(case)
    check(
        case, lambda: mpqueue.decode_csv(**args), check_outputs, "ValueError" if args.get("select_cols") == [] else None
    )
