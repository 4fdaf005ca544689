"""S3 from a local server, only if ``moto[server]`` and ``s3fs`` are installed, which the gate does not do."""

import io
import pickle
import time

import fsspec.asyn
import pytest
from helpers.file_formats import write_tar
from helpers.range_server import forget_file_systems

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files.access.opened import IndexedFile, OpenFiles
from mpqueue.files.access.ranges import FileRange

moto = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of these packages
# fsspec's thread, and its thread for name resolution, remain for the life of the process.
fsspec.asyn.get_loop().call_soon_threadsafe(lambda: fsspec.asyn.get_loop().run_in_executor(None, time.monotonic))
DATA = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def server():
    found = moto.ThreadedMotoServer(port=0, verbose=False)
    found.start()
    yield "http://{}:{}".format(*found.get_host_and_port())
    found.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": server,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    forget_file_systems()
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    for found in client.list_objects_v2(Bucket="photos").get("Contents", []):
        client.delete_object(Bucket="photos", Key=found["Key"])
    forget_file_systems()


def put_tars(client):
    for number in range(2):
        data = io.BytesIO()
        write_tar(None, [(f"{number}-{i:03d}.txt", b"%3d" % i * 1000) for i in range(50)], fileobj=data)
        client.put_object(Bucket="photos", Key=f"d/{number}.tar", Body=data.getvalue())


@pytest.mark.fresh_fork_server
def test_objects_are_read_by_ranges_here_and_in_workers(bucket):
    put_tars(bucket)
    source = files.Tar("s3://photos/d/*.tar")
    assert len(source) == 100
    assert pickle.loads(pickle.dumps(source))[51] == {"__key__": "1-001", "txt": b"  1" * 1000}
    with mpqueue.Loader(source, batch_size=10, shuffle=True, workers=2, seed=1) as loader:
        keys = [key for batch in loader for key in batch["__key__"]]
    assert sorted(keys) == [f"{number}-{i:03d}" for number in range(2) for i in range(50)]


@pytest.mark.parametrize("data", [DATA[:1000], DATA[::-1], b""], ids=["shrunk", "other", "empty"])
def test_object_that_changes_between_reads_raises_an_error_with_its_name(bucket, data):
    bucket.put_object(Bucket="photos", Key="a", Body=DATA)
    opened = OpenFiles([IndexedFile.of("s3://photos/a")])
    assert opened.read_all([FileRange(0, 5, 5), FileRange(0, 500_000, 5)]) == [DATA[5:10], DATA[500_000:500_005]]
    bucket.put_object(Bucket="photos", Key="a", Body=data)
    for offset in (10, 500_000):
        with pytest.raises(FileError, match="s3://photos/a: it has changed since it was indexed: it had 1,024,000"):
            opened.read(0, offset, 5)


def test_missing_object_raises_file_not_found(bucket):
    with pytest.raises(FileNotFoundError, match="photos/none"):
        IndexedFile.of("s3://photos/none")
    bucket.put_object(Bucket="photos", Key="a", Body=DATA)
    opened = OpenFiles([IndexedFile.of("s3://photos/a")])
    bucket.delete_object(Bucket="photos", Key="a")
    with pytest.raises(FileNotFoundError, match="photos/a"):
        opened.read(0, 0, 1)
