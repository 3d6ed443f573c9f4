"""Unpacking tar archives that others have made: nothing lands outside of the folder."""

import io
import os
import tarfile
from pathlib import Path


def unpack(content: bytes, folder: Path) -> None:
    """Everything in the archive into `folder`. Raises tarfile.TarError for what would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Python up to 3.11.3, as in Debian 12
            for member in archive.getmembers():
                check_member(member)
            archive.extractall(folder)  # noqa: S202


def check_member(member: tarfile.TarInfo) -> None:
    """What tarfile's "data" filter refuses, and links out of the folder of whatever kind."""
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.ExtractError(f"'{member.name}' is neither a file nor a folder")
    places = [member.name]
    if member.issym():
        places.append(str(Path(member.name).parent / member.linkname))
    elif member.islnk():
        places.append(member.linkname)
    for place in places:
        if Path(place).is_absolute() or Path(os.path.normpath(place)).parts[:1] == ("..",):
            raise tarfile.ExtractError(f"'{member.name}' would leave its folder")
