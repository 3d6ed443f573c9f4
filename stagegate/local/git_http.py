"""git over HTTP (gitprotocol-http(5)), the smart way: clone, fetch and push by a plain git client.

A request is kept in a file until it is whole; only then does git see it. So a push whose client hangs up has
changed nothing, and a large one costs disk and no memory.
"""

import asyncio
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from stagegate.local.git_repository import GitRepository, git_environment

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
LARGEST_REQUEST = 2 * 2**30
"""Bytes, unpacked: CodeCommit takes files of at most 2 GB."""
_PIECE = 2**16
_NO_CACHE = {"cache-control": "no-cache, max-age=0, must-revalidate", "pragma": "no-cache"}


class Refused(Exception):
    """A request that git is not shown, and the answer to it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = PlainTextResponse(f"{message}\n", status_code=status)


def service_of(request: Request, path: str) -> str:
    """Which of git's two services a request means; raises Refused for anything else.

    `path` is what stands after the repository's.
    """
    asked = request.query_params.get("service", "") if path == "info/refs" else path
    expected = "GET" if path == "info/refs" else "POST"
    if asked not in (UPLOAD, RECEIVE):
        raise Refused(404, "There is only git's smart HTTP here: git clone, fetch and push.")
    if request.method != expected:
        raise Refused(405, f"{path} wants {expected}.")
    return asked


async def advertise(repository: GitRepository, service: str, request: Request) -> Response:
    """Answer GET info/refs: what references there are, and what the service can."""
    process = await _start(repository, service, request, "--advertise-refs", stdin=asyncio.subprocess.DEVNULL)
    advertised, _ = await process.communicate()
    if process.returncode != 0:
        return PlainTextResponse("The repository cannot be read.\n", status_code=500)
    named = f"# service={service}\n"
    is_version_2 = service == UPLOAD and "version=2" in request.headers.get("git-protocol", "")
    head = "" if is_version_2 else f"{len(named) + 4:04x}{named}0000"  # version 2 begins at once
    media_type = f"application/x-{service}-advertisement"
    return Response(head.encode() + advertised, media_type=media_type, headers=_NO_CACHE)


async def read_request(request: Request, folder: Path) -> IO[bytes]:
    """The body of a request to a service, whole and unpacked, in a file in `folder` that nobody else sees.

    Raises Refused where it is too large, and ClientDisconnect.
    """
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    is_packed = request.headers.get("content-encoding", "") in ("gzip", "x-gzip")
    body: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (whoever asked for it closes it)
    try:
        size = 0  # unpacked
        async for piece in request.stream():
            while piece:
                plain = unpack.decompress(piece, _PIECE) if is_packed else piece
                piece = unpack.unconsumed_tail if is_packed else b""
                size += len(plain)
                if size > LARGEST_REQUEST:
                    raise Refused(413, f"A push or fetch may send at most {LARGEST_REQUEST:,} bytes.")
                await asyncio.to_thread(body.write, plain)
        if is_packed:
            body.write(unpack.flush())
        if is_packed and not unpack.eof:
            raise Refused(400, "The body of the request says that it is gzip, and is not, or not whole.")
        body.seek(0)  # and is written
    except OSError as error:
        body.close()
        raise Refused(507, f"The request cannot be kept on disk: {error.strerror}.") from error
    except zlib.error as error:
        body.close()
        raise Refused(400, f"The body of the request cannot be unpacked: {error}.") from error
    except BaseException:
        body.close()
        raise
    return body


async def fetch(repository: GitRepository, request: Request, body: IO[bytes]) -> AsyncIterator[bytes]:
    """What upload-pack answers to the body, as it comes."""
    process = await _start(repository, UPLOAD, request, stdin=body)
    assert process.stdout is not None
    try:
        while piece := await process.stdout.read(_PIECE):
            yield piece
        await process.wait()
    finally:
        await _end(process)
        body.close()


async def push(repository: GitRepository, request: Request, body: IO[bytes]) -> bytes:
    """What receive-pack answers to the body; the references are moved then, or refused."""
    with ExitStack() as stack:
        lock = await asyncio.to_thread(stack.enter_context, repository.locked())
        process = await _start(repository, RECEIVE, request, stdin=body, keep=(lock,))
        try:
            answer, _ = await process.communicate()
        finally:
            await _end(process)
    return answer


async def _start(
    repository: GitRepository,
    service: str,
    request: Request,
    *options: str,
    stdin: int | IO[bytes],
    keep: tuple[int, ...] = (),
) -> asyncio.subprocess.Process:
    protocol = request.headers.get("git-protocol")
    return await asyncio.create_subprocess_exec(
        *("git", service.removeprefix("git-"), "--stateless-rpc", *options, str(repository.folder)),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**git_environment(), **({"GIT_PROTOCOL": protocol} if protocol else {})},
        pass_fds=keep,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()  # git takes its locks away then
        await process.wait()
