"""Systems other than Linux: an error at the first use of a loader or a server."""

import subprocess
import sys

CODE = """
import sys

sys.platform = "darwin"
import mpqueue

def serve():
    from mpqueue.__main__ import main
    main(["serve"])

for use in lambda: mpqueue.Loader([1.0]), lambda: mpqueue.attach, serve:
    try:
        use()
    except ImportError as error:
        print(error)
"""


def test_error_names_required_system_and_alternative():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("mpqueue requires Linux") == 3
    assert done.stdout.count("got darwin: use a Linux container or virtual machine") == 3
