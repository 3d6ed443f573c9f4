"""The journal keeps what is needed to make moto's objects again, and no more."""

import pytest

LARGE = b"x" * 10_000


def kept(endpoint):
    """The operations in the journal, and how many files lie beside it."""
    operations = [entry["operation"] for entry in endpoint.store.read("moto")]
    return operations, len(list((endpoint.runtime.data / "moto").iterdir()))


async def put(endpoint, key, body=LARGE):
    await endpoint.aws("s3", "PutObject", {"Bucket": "b-1", "Key": key, "Body": body})


async def contents(endpoint):
    listed = await endpoint.aws("s3", "ListObjectsV2", {"Bucket": "b-1"})
    return {
        entry["Key"]: (await endpoint.aws("s3", "GetObject", {"Bucket": "b-1", "Key": entry["Key"]}))["Body"]
        for entry in listed.get("Contents", ())
    }


async def upload(endpoint, key, parts):
    started = await endpoint.aws("s3", "CreateMultipartUpload", {"Bucket": "b-1", "Key": key})
    this = {"Bucket": "b-1", "Key": key, "UploadId": started["UploadId"]}
    done = []
    for number, body in enumerate(parts, start=1):
        part = await endpoint.aws("s3", "UploadPart", {**this, "PartNumber": number, "Body": body})
        done.append({"PartNumber": number, "ETag": part["ETag"]})
    return this, done


async def settled(endpoint):
    """Until the files that are no longer needed are gone."""
    await endpoint.store.committed()
    await endpoint.aws("s3", "ListBuckets", {})


@pytest.fixture
def opened(open_endpoint):
    return open_endpoint


async def test_an_overwritten_object_leaves_nothing_behind(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        for number in range(5):
            await put(endpoint, "key", LARGE + b"%d" % number)
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 1)

    async with opened() as endpoint:
        assert await contents(endpoint) == {"key": LARGE + b"4"}
        await put(endpoint, "key", b"small")
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 0)


async def test_a_deleted_object_leaves_nothing_behind(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        for key in ("a", "b", "c"):
            await put(endpoint, key, LARGE + key.encode())
        await endpoint.aws("s3", "DeleteObject", {"Bucket": "b-1", "Key": "a"})
        objects = {"Objects": [{"Key": "b"}]}
        await endpoint.aws("s3", "DeleteObjects", {"Bucket": "b-1", "Delete": objects})
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 1)

    async with opened() as endpoint:
        assert await contents(endpoint) == {"c": LARGE + b"c"}


async def test_one_file_serves_objects_of_the_same_content(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        await put(endpoint, "a")
        await put(endpoint, "b")
        await endpoint.aws("s3", "DeleteObject", {"Bucket": "b-1", "Key": "a"})
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 1)

    async with opened() as endpoint:
        assert await contents(endpoint) == {"b": LARGE}


async def test_a_copy_keeps_what_it_was_made_of(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        await put(endpoint, "source", LARGE + b"1")
        await endpoint.aws("s3", "CopyObject", {"Bucket": "b-1", "Key": "copy", "CopySource": "b-1/source"})
        await put(endpoint, "source", LARGE + b"2")
        await put(endpoint, "source", LARGE + b"3")
        before = await contents(endpoint)

    async with opened() as endpoint:
        assert await contents(endpoint) == before == {"copy": LARGE + b"1", "source": LARGE + b"3"}
        await endpoint.aws("s3", "DeleteObject", {"Bucket": "b-1", "Key": "source"})

    async with opened() as endpoint:
        assert await contents(endpoint) == {"copy": LARGE + b"1"}


async def test_an_object_copied_onto_itself_stays(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        await put(endpoint, "key")
        onto_itself = {"Bucket": "b-1", "Key": "key", "CopySource": "b-1/key", "MetadataDirective": "REPLACE"}
        await endpoint.aws("s3", "CopyObject", {**onto_itself, "Metadata": {"a": "b"}})
        await endpoint.aws("s3", "CopyObject", {**onto_itself, "Metadata": {"a": "c"}})

    async with opened() as endpoint:
        assert await contents(endpoint) == {"key": LARGE}
        assert (await endpoint.aws("s3", "HeadObject", {"Bucket": "b-1", "Key": "key"}))["Metadata"] == {
            "a": "c"
        }


async def test_a_multipart_upload_goes_on_after_a_restart(opened):
    parts = [b"1" * 6_000_000, b"2" * 10]
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        await put(endpoint, "key")
        this, done = await upload(endpoint, "key", parts)

    async with opened() as endpoint:
        await endpoint.aws("s3", "CompleteMultipartUpload", {**this, "MultipartUpload": {"Parts": done}})
        await settled(endpoint)
        assert kept(endpoint) == (
            ["CreateBucket", "CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload"],
            1,
        )

    async with opened() as endpoint:
        assert await contents(endpoint) == {"key": b"".join(parts)}
        await put(endpoint, "key", b"small")
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 0)


async def test_an_aborted_upload_leaves_nothing_behind(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        this, _ = await upload(endpoint, "key", [LARGE])
        await endpoint.aws("s3", "AbortMultipartUpload", this)
        await settled(endpoint)
        assert kept(endpoint) == (["CreateBucket"], 0)


async def test_a_versioned_bucket_keeps_its_past(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        versioning = {"Bucket": "b-1", "VersioningConfiguration": {"Status": "Enabled"}}
        await endpoint.aws("s3", "PutBucketVersioning", versioning)
        for body in (b"1", b"2"):
            await put(endpoint, "key", body)
        await endpoint.aws("s3", "DeleteObject", {"Bucket": "b-1", "Key": "key"})
        before = await endpoint.aws("s3", "ListObjectVersions", {"Bucket": "b-1"})

    async with opened() as endpoint:
        assert await endpoint.aws("s3", "ListObjectVersions", {"Bucket": "b-1"}) == before
    assert (len(before["Versions"]), len(before["DeleteMarkers"])) == (2, 1)


async def test_files_without_an_entry_are_taken_away_at_the_start(opened):
    async with opened() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "b-1"})
        await put(endpoint, "key")
        (endpoint.runtime.data / "moto" / "0000.part").write_bytes(b"half")

    async with opened() as endpoint:
        assert kept(endpoint) == (["CreateBucket", "PutObject"], 1)


async def test_requests_that_failed_are_not_kept(opened):
    async with opened() as endpoint:
        for _ in range(2):
            try:
                await endpoint.aws("dynamodb", "DeleteTable", {"TableName": "nowhere"})
            except Exception as error:
                assert "ResourceNotFoundException" in str(error)

        assert kept(endpoint) == ([], 0)
