"""What an archive may hold, also where Python does not check it itself."""

import io
import tarfile

import pytest

from stagegate.local.archives import check_member, unpack


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("filtered", [True, False])
def test_an_archive_is_unpacked_with_and_without_pythons_own_filter(tmp_path, monkeypatch, filtered):
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter")
        monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(tarfile.tar_filter))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("./a.txt", "b/c.txt"):
            info = member(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))

    unpack(buffer.getvalue(), tmp_path / "new")

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")) == [
        "new/a.txt",
        "new/b/c.txt",
    ]


@pytest.mark.parametrize(
    "info",
    [
        member("../a"),
        member("/etc/a"),
        member("a/../../b"),
        member("a", tarfile.SYMTYPE, "/etc"),
        member("a/b", tarfile.SYMTYPE, "../../c"),
        member("a", tarfile.LNKTYPE, "../b"),
        member("a", tarfile.CHRTYPE),
        member("a", tarfile.FIFOTYPE),
    ],
)
def test_what_would_leave_the_folder_is_refused(info):
    with pytest.raises(tarfile.ExtractError):
        check_member(info)


@pytest.mark.parametrize(
    "info",
    [member("a/b"), member("a", tarfile.DIRTYPE), member("a/b", tarfile.SYMTYPE, "../c"), member("...a")],
)
def test_what_stays_in_the_folder_is_taken(info):
    check_member(info)
