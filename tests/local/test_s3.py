"""Whole folders between S3 and the disk."""

import pytest

from stagegate.local import s3
from stagegate.local.service import AWSError


@pytest.fixture
async def aws(open_endpoint):
    async with open_endpoint() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
        yield endpoint.aws


async def test_a_folder_goes_there_and_back(aws, tmp_path):
    source = tmp_path / "source"
    (source / "ä" / "b").mkdir(parents=True)
    (source / "ä" / "b" / "c.bin").write_bytes(b"\xff\x00")
    (source / "d.txt").write_text("d")

    uris = await s3.upload(aws, source, "s3://bucket/folder/")
    files = await s3.download(aws, "s3://bucket/folder", tmp_path / "back")

    assert uris == ["s3://bucket/folder/d.txt", "s3://bucket/folder/ä/b/c.bin"]
    assert files == [tmp_path / "back" / "d.txt", tmp_path / "back" / "ä" / "b" / "c.bin"]
    assert [path.read_bytes() for path in files] == [b"d", b"\xff\x00"]


async def test_one_object_goes_by_its_own_name(aws, tmp_path):
    await s3.write(aws, "s3://bucket/a/b/model.tar.gz", b"model")

    assert await s3.download(aws, "s3://bucket/a/b/model.tar.gz", tmp_path) == [tmp_path / "model.tar.gz"]


async def test_every_page_of_keys_is_read(aws):
    for number in range(1010):
        await s3.write(aws, f"s3://bucket/k/{number:04}", b"")

    assert await s3.keys(aws, "s3://bucket/k/") == [f"k/{number:04}" for number in range(1010)]


async def test_a_key_that_would_leave_the_folder_is_refused(aws, tmp_path):
    await s3.write(aws, "s3://bucket/a/x/../../../escaped", b"")

    with pytest.raises(AWSError, match="would leave its folder"):
        await s3.download(aws, "s3://bucket/a/x/", tmp_path / "folder")


@pytest.mark.parametrize("uri", ["bucket/key", "http://bucket/key", "s3:///key", ""])
def test_what_is_no_s3_uri_is_refused(uri):
    with pytest.raises(AWSError, match="is not an S3 URI"):
        s3.split_uri(uri)
