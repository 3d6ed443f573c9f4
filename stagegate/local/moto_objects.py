"""Which of the requests to S3 in the journal still matter.

An object that was overwritten or deleted in an unversioned bucket has no past: the requests that made it need
not be asked again, and their bodies need not be kept. What was copied from stays, because the copy needs it.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from stagegate.local.messages import HttpRequest

_REPLACES = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload"})
_KEEPS_THE_PAST = frozenset(
    {
        "PostObject",
        "PutBucketNotificationConfiguration",
        "PutBucketReplication",
        "PutBucketVersioning",
        "PutObjectLockConfiguration",
    }
)
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")

Key = tuple[str, str]


@dataclass(kw_only=True)
class _Object:
    entries: dict[int, str | None] = field(default_factory=dict)
    """The numbers of the requests that made it, with the multipart upload that is not complete yet."""
    is_source: bool = False
    """Something was copied from it as those requests have made it."""
    has_past: bool = False
    """Earlier requests for it stay in the journal, so that its end must stand there too."""

    def made_by(self, upload_id: str | None = None) -> list[int]:
        return [number for number, of_upload in self.entries.items() if of_upload == upload_id]


class Objects:
    """What the journal holds for each object."""

    def __init__(self) -> None:
        self._objects: dict[Key, _Object] = {}
        self._with_a_past: set[str] = set()

    def superseded(self, operation: str, request: HttpRequest) -> tuple[list[int], bool]:
        """Of a request that succeeded: the entries that it makes superfluous, and whether it needs one."""
        if operation == "DeleteObjects":
            ends = [self._ended((_bucket(request), key)) for key in _keys_in(request.body)]
            return [number for numbers, _ in ends for number in numbers], any(needs for _, needs in ends)
        key = _key(request)
        if key is None or key[0] in self._with_a_past:
            return [], True
        known = self._objects.get(key, _Object())
        if operation == "DeleteObject":
            return self._ended(key)
        if operation == "AbortMultipartUpload":
            return known.made_by(_upload_id(request)), False
        if operation in _REPLACES and not known.is_source and _source(request) != key:
            return known.made_by(), True
        return [], True

    def add(self, number: int, operation: str, request: HttpRequest, response: bytes) -> None:
        """The request, which moto answered with `response`, has the `number` in the journal."""
        key = _key(request)
        if key is None:
            if operation in _KEEPS_THE_PAST or "x-amz-bucket-object-lock-enabled" in request.headers:
                self._with_a_past.add(_bucket(request))
            return
        source = _source(request)
        if source is not None and source in self._objects:
            self._objects[source].is_source = True
        known = self._objects.setdefault(key, _Object())
        upload_id = _upload_id(request)
        if operation == "CreateMultipartUpload" and (found := _UPLOAD_ID.search(response)):
            upload_id = found[1].decode()
        if operation == "CompleteMultipartUpload":
            known.entries |= dict.fromkeys(known.made_by(upload_id), None)
            upload_id = None
        elif operation in _REPLACES and known.is_source:
            for past in known.made_by():
                del known.entries[past]
            known.is_source, known.has_past = source == key, True
        known.entries[number] = upload_id

    def forget(self, number: int, operation: str, request: HttpRequest) -> None:
        """The entry `number`, superseded by the request, is gone."""
        keys = (
            [_key(request)]
            if operation != "DeleteObjects"
            else [(_bucket(request), key) for key in _keys_in(request.body)]
        )
        for key in keys:
            if key is not None and key in self._objects:
                known = self._objects[key]
                known.entries.pop(number, None)
                if not known.entries and not known.has_past:
                    del self._objects[key]

    def _ended(self, key: Key) -> tuple[list[int], bool]:
        if key[0] in self._with_a_past:
            return [], True
        known = self._objects.get(key, _Object())
        if known.is_source:
            return [], True
        return known.made_by(), known.has_past


def _bucket(request: HttpRequest) -> str:
    return unquote(request.path).lstrip("/").partition("/")[0]


def _key(request: HttpRequest) -> Key | None:
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    return (bucket, key) if key else None


def _source(request: HttpRequest) -> Key | None:
    header = request.headers.get("x-amz-copy-source")
    if header is None:
        return None
    bucket, _, key = unquote(header.partition("?")[0]).lstrip("/").partition("/")
    return bucket, key


def _upload_id(request: HttpRequest) -> str | None:
    return parse_qs(request.query).get("uploadId", [None])[0]


def _keys_in(body: bytes) -> list[str]:
    """The keys that DeleteObjects names; the body is XML that moto has read already."""
    root = ElementTree.fromstring(body)  # noqa: S314
    return [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == "Key"]
