"""Unpacking archives nobody vouches for; rows 26-28 of the table of faults."""

import io
import os
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from fusionlib import archives
from fusionlib.archives import extract, lock
from fusionlib.errors import DatasetError, DownloadError


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, data in files.items():
            box.writestr(name, data)
    return path


def tar_of(path, *members, mode="w"):
    """Write a tar; a member is a name with its bytes, or a TarInfo."""
    with tarfile.open(path, mode) as box:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                box.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                box.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def assert_refused(archive, target, match):
    def files():
        return [p for p in sorted(archive.parent.rglob("*")) if p.suffix != ".lock"]

    before = files()
    with pytest.raises(DatasetError, match=match):
        extract(archive, target)
    assert files() == before


# ---- what is unpacked


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
def test_extract_every_kind(tmp_path, mode):
    files = {"top/ir/a.png": b"1" * 3000, "top/vi/ä b.png": b"2", "top/empty": b""}
    archive = tmp_path / "archive"
    if mode == "zip":
        zip_of(archive, files | {"top/none/": b""})
    else:
        tar_of(archive, special("top", tarfile.DIRTYPE), *files.items(), mode=mode)
    target = extract(archive, tmp_path / "new" / "out")
    found = {f.relative_to(target).as_posix(): f for f in target.rglob("*") if f.is_file()}
    assert {name: f.read_bytes() for name, f in found.items() if name[0] != "."} == files
    assert [f.name for f in target.parent.iterdir() if f.is_dir()] == ["out"]


def test_extract_tar_that_ends_in_a_zip(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", {"x": b"x"}).read_bytes()
    target = extract(tar_of(tmp_path / "a.tar", ("inner.zip", inner)), tmp_path / "out")
    assert (target / "inner.zip").read_bytes() == inner


def test_extract_never_mixes_with_other_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    archive = zip_of(tmp_path / "a.zip", {"f": b"1"})
    with pytest.raises(DatasetError, match="something else"):
        extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_extract_replaces_what_a_killed_process_left(tmp_path):
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "half").write_text("half")
    (tmp_path / "out").mkdir()
    target = extract(zip_of(tmp_path / "a.zip", {"f": b"1"}), tmp_path / "out")
    assert [f.name for f in target.iterdir() if f.name[0] != "."] == ["f"]


# ---- row 26: names


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "\\evil", "C:\\evil", "c:evil", "a\\..\\..\\evil"]
)
def test_r26_name_that_leads_out(tmp_path, name):
    match = "evil.*(absolute|leads out)"
    assert_refused(zip_of(tmp_path / "a.zip", {"f": b"", name: b"x"}), tmp_path / "out", match)
    assert_refused(tar_of(tmp_path / "a.tar", ("f", b""), (name, b"x")), tmp_path / "out", match)


def test_r26_zip_member_whose_name_is_cut_to_nothing(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"ab": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"ab", b"\0b"))  # zipfile ends it at the NUL
    assert_refused(archive, tmp_path / "out", "nothing was unpacked")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_r26_tar_links_and_devices(tmp_path, kind):
    archive = tar_of(tmp_path / "a.tar", ("f", b"1"), special("odd", kind, "f"))
    assert_refused(archive, tmp_path / "out", "'odd' is a link, a device")


@pytest.mark.parametrize("mode", [0o120777, 0o020666])
def test_r26_zip_links_and_devices(tmp_path, mode):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as box:
        info = zipfile.ZipInfo("odd")
        info.create_system, info.external_attr = 3, mode << 16
        box.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "a.zip", tmp_path / "out", "'odd' is a link, a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a/f.png", "a/f.png"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("a/f", "a//./f"),
        ("a\\f", "a/f"),
        ("a", "a/f"),
        ("a/f", "A"),
    ],
)
def test_r26_names_that_meet_after_normalisation(tmp_path, one, two):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as box:
        box.writestr(one, "1")
        box.writestr(two, "2")
    assert_refused(tmp_path / "a.zip", tmp_path / "out", "another member|meets")
    tar_of(tmp_path / "a.tar", (one, b"1"), (two, b"2"))
    assert_refused(tmp_path / "a.tar", tmp_path / "out", "another member|meets")


def test_r26_names_without_end_or_beginning(tmp_path):
    archive = tar_of(tmp_path / "a.tar", ("x/" * 600 + "f", b"1"))
    assert_refused(archive, tmp_path / "out", "too long")
    archive = tar_of(tmp_path / "a.tar", ("n" * 300, b"1"))  # longer than file systems take
    assert_refused(archive, tmp_path / "out", "cannot be unpacked")
    archive = zip_of(tmp_path / "a.zip", {".": b"1"})
    assert_refused(archive, tmp_path / "out", "has no name")


# ---- row 27: sizes


@pytest.mark.parametrize("mode", ["zip", "w:xz"])
def test_r27_ratio(tmp_path, mode):
    data = bytes(10_000_000)
    if mode == "zip":
        archive = zip_of(tmp_path / "a", {"bomb": data})
    else:
        archive = tar_of(tmp_path / "a", ("bomb", data), mode=mode)
    assert_refused(archive, tmp_path / "out", "'bomb' makes it 10000000 bytes.*bomb")


def test_r27_total(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a": os.urandom(600), "b": os.urandom(600)})
    with pytest.raises(DatasetError, match="'b' makes it 1200 bytes, more than 1000"):
        extract(archive, tmp_path / "out", max_bytes=1000)
    assert not (tmp_path / "out").exists()
    extract(archive, tmp_path / "out", max_bytes=1200)


def test_r27_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    archive = zip_of(tmp_path / "a.zip", {str(n): b"" for n in range(6)})
    assert_refused(archive, tmp_path / "out", "'5' is one of more than 5 members")


def test_r27_limits_are_those_of_the_table():
    assert (archives.MAX_RATIO, archives.MAX_MEMBERS) == (200, 200_000)


def test_r27_zip_that_declares_less_than_it_holds(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"f": b"x" * 1000})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert_refused(archive, tmp_path / "out", "cannot be unpacked|over its size")


def test_r27_header_that_would_fill_the_memory(tmp_path):
    info = tarfile.TarInfo("f")
    info.type, info.size = tarfile.XHDTYPE, (1 << 33) - 1
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    assert_refused(tmp_path / "a.tar", tmp_path / "out", "false size")


def test_r27_negative_size(tmp_path):
    info = tarfile.TarInfo("f")
    info.pax_headers = {"size": "-512000"}
    tar_of(tmp_path / "a.tar", ("e", b"1"), info)
    assert_refused(tmp_path / "a.tar", tmp_path / "out", "false size")


def test_r27_endless_zeros_behind_a_tar(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "TAR_RECORD", 512)
    archive = tar_of(tmp_path / "a.tar", ("f", b"1"))
    with archive.open("ab") as file:
        file.write(bytes(200 * 512))
    assert_refused(archive, tmp_path / "out", "more behind the last member")


def test_r27_not_enough_room(tmp_path, monkeypatch):
    usage = type(archives.shutil.disk_usage(tmp_path))(100, 50, 50)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    archive = zip_of(tmp_path / "a.zip", {"f": os.urandom(51)})
    assert_refused(archive, tmp_path / "out", "51 bytes to unpack, but only 50 are free")


# ---- damage; the library below raises something else for each of these


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_archive_leaves_nothing(tmp_path, mode, damage):
    archive, files = tmp_path / "a", {"f": os.urandom(9000), "g": os.urandom(9000)}
    zip_of(archive, files) if mode == "zip" else tar_of(archive, *files.items(), mode=mode)
    data = bytearray(archive.read_bytes())
    if damage == "cut":
        del data[12_000:]
    else:
        data[600 if mode == "w" else 12_000] ^= 0xFF
        if mode == "w":
            data[10] ^= 0xFF  # a tar has checksums of headers only
    archive.write_bytes(data)
    assert_refused(archive, tmp_path / "out", "get it again")


def test_encrypted_zip(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"f": b"1"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    assert_refused(archive, tmp_path / "out", "encrypted")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"Rar!\x1a\x07\x01\x00", "by hand"),
        (b"7z\xbc\xaf\x27\x1c", "by hand"),
        (b"<html>quota</html>", "not a zip file"),
        (b"", "not a zip file"),
    ],
)
def test_other_kinds_of_archive(tmp_path, data, match):
    (tmp_path / "a.zip").write_bytes(data)
    assert_refused(tmp_path / "a.zip", tmp_path / "out", match)


def test_no_archive(tmp_path):
    with pytest.raises(DatasetError, match="is not a file"):
        extract(tmp_path / "none.zip", tmp_path / "out")


# ---- row 28: two processes


def test_r28_second_extract_waits_and_uses_the_result(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"f": b"1"})
    target, done = tmp_path / "out", []
    with lock(target, DatasetError):
        thread = threading.Thread(target=lambda: done.append(extract(archive, target)))
        thread.start()
        time.sleep(0.3)
        assert not done and not target.exists()
    thread.join(10)
    assert done == [target]
    changed = (target / "f").stat().st_mtime_ns
    assert extract(archive, target) == target
    assert (target / "f").stat().st_mtime_ns == changed


def test_r28_old_lock_is_reported_not_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LOCK_POLL", 0.05)
    owner = Path(f"{tmp_path / 'a'}.lock.owner")
    with FileLock(f"{tmp_path / 'a'}.lock"):
        owner.write_text("process 1234 on elsewhere")
        os.utime(owner, (time.time() - 3700,) * 2)
        with (
            pytest.raises(DownloadError, match="process 1234 on elsewhere for over 3600 s"),
            lock(tmp_path / "a", DownloadError),
        ):
            pytest.fail("two hold the lock")
        assert owner.exists()
    with lock(tmp_path / "a", DownloadError):  # released: goes on
        assert owner.read_text().startswith(f"process {os.getpid()} on")
    assert not owner.exists()


def test_r28_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(DatasetError, match="cannot be made"),
        lock(tmp_path / "file" / "a", DatasetError),
    ):
        pytest.fail("there is no lock")
