"""The pipeline's code as a bundle in S3, under the hash of its content: the same code is the same place."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import ConfigurationError

SOURCE_FOLDERS = ("training", "evaluation")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a run needs of the project: keys below `code/<hash>/` and their content."""

    digest: str
    objects: dict[str, bytes]

    @property
    def prefix(self) -> str:
        return f"code/{self.digest}"


def read_bundle(root: Path) -> Bundle:
    """The bundle of the project in `root`.

    `source/…` for processing jobs, `sourcedir.tar.gz` for training jobs, `deploy.zip` for builds, and
    `deploy/…` for templates and parameter files. Raises ConfigurationError where a folder is missing.
    """
    source = {path: content for folder in SOURCE_FOLDERS for path, content in _files(root, folder).items()}
    if (requirements := source.get("training/requirements.txt")) is not None:
        source["requirements.txt"] = requirements  # where SageMaker's training image looks for it
    deploy = _files(root, "deploy")
    objects = {f"source/{path}": content for path, content in source.items()}
    objects["sourcedir.tar.gz"] = _tar(source)
    objects["deploy.zip"] = zip_files(deploy)
    objects |= deploy
    digest = hashlib.sha256()
    for key, content in sorted(objects.items()):
        digest.update(f"{key}\0{len(content)}\0".encode() + content)
    return Bundle(digest=digest.hexdigest()[:16], objects=objects)


def upload_bundle(services: Services, bundle: Bundle, bucket: str) -> str:
    """Put what is not there yet into `bucket`; gives the bundle's URI.

    The tar archive is written last and marks the bundle as whole.
    """
    s3 = services("s3")
    marker = f"{bundle.prefix}/sourcedir.tar.gz"
    if not is_there(services, bucket, marker):
        for path in sorted(bundle.objects, key=lambda path: (path == "sourcedir.tar.gz", path)):
            s3.put_object(Bucket=bucket, Key=f"{bundle.prefix}/{path}", Body=bundle.objects[path])
    return f"s3://{bucket}/{bundle.prefix}"


def zip_files(contents: dict[str, bytes]) -> bytes:
    """A zip archive that is the same bytes for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(path)  # dated 1980, whenever it is made
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def function_package(root: Path) -> bytes:
    """The Lambda functions' package: the files of deploy/functions at the top of a zip archive."""
    prefix = "deploy/functions/"
    return zip_files({path.removeprefix(prefix): content for path, content in _files(root, prefix).items()})


def _tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for path, content in sorted(contents.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _files(root: Path, folder: str) -> dict[str, bytes]:
    top = root / folder
    if not top.is_dir():
        raise ConfigurationError(f"{root} has no folder {folder}/: run this in a Stagegate project")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def is_there(services: Services, bucket: str, key: str) -> bool:
    """Whether the bucket has that object."""
    try:
        services("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return True
