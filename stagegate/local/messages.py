"""An HTTP request and its answer, as the endpoint hands them around: whole, in memory."""

import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    method: str
    path: str
    """As it arrived, still percent-encoded: S3 keys need that."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By names in lower case."""
    body: bytes = b""
    client_left: Callable[[], Awaitable[None]] | None = None
    """Returns when whoever asked has hung up."""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def query_parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def uncompressed(self) -> "HttpRequest":
        """With its body unpacked: clients compress large bodies, such as those of PutMetricData."""
        if self.headers.get("content-encoding") != "gzip":
            return self
        headers = {name: value for name, value in self.headers.items() if name != "content-encoding"}
        body = gzip.decompress(self.body)
        return replace(self, headers=headers | {"content-length": str(len(body))}, body=body)

    def wsgi_environ(self, host: str) -> dict[str, Any]:
        """The request in the form that werkzeug, and so moto, takes it."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(self.path).decode("latin-1"),
            "RAW_URI": self.path,
            "QUERY_STRING": self.query,
            "SERVER_NAME": host.rpartition(":")[0] or host,
            "SERVER_PORT": host.rpartition(":")[2] or "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        with_underscores = {}
        for name, value in self.headers.items():
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = value
            if "_" in name:  # WSGI does not tell "_" from "-"; the keys of an S3 object's metadata do
                with_underscores[key] = name
        environ["moto.preserved_header_names"] = with_underscores
        environ["HTTP_HOST"] = host
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = str(len(self.body))
        environ.pop("HTTP_CONTENT_LENGTH", None)
        environ.pop("HTTP_TRANSFER_ENCODING", None)  # the body is whole
        return environ


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    """In place of the body, where that is still being made."""
    is_lost: bool = False
    """The client gets none of it: the connection ends."""
