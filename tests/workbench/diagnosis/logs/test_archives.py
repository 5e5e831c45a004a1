"""Archives are unpacked within bounds, below one folder, and say what is wrong with them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile

import pytest

from workbench.diagnosis.logs import archives
from workbench.diagnosis.logs.archives import archive_of, files_inside
from workbench.errors import LogError
from workbench.jobs.log_reading import HowToRead, read_guarded
from workbench.spec.limits import lifted

ROWS = "".join(
    f'{{"step": {s}, "prompt": "p{s}", "completion": "c{g}", "reward": {g % 2}}}\n'
    for s in range(3)
    for g in range(4)
)


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def inside(path, tmp_path):
    return files_inside([path], None, tmp_path / "unpacked")


def test_members_go_below_one_folder_whatever_they_are_called(tmp_path):
    names = ["/etc/a.jsonl", "../../b.jsonl", "C:\\x\\c.jsonl", "..\\d.jsonl"]
    found = inside(zipped(tmp_path / "log.zip", dict.fromkeys(names, ROWS)), tmp_path)
    folder = (tmp_path / "unpacked" / "0").resolve()
    assert sorted(path.name for path in found.paths) == [f"{one}.jsonl" for one in "abcd"]
    assert all(path.resolve().is_relative_to(folder) for path in found.paths)
    assert not [path for path in tmp_path.rglob("*.jsonl") if not path.is_relative_to(folder)]
    assert "log.zip/etc/a.jsonl" in found.names


def test_links_and_devices_are_passed_over(tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(ROWS)
    link = zipfile.ZipInfo("link.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, str(secret))
        archive.writestr("plain.jsonl", ROWS)
    (tmp_path / "linked.jsonl").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name in ("linked.jsonl", "pipe.jsonl"):
            archive.add(tmp_path / name, name)
        plain = tarfile.TarInfo("plain.jsonl")
        plain.size = len(ROWS)
        archive.addfile(plain, io.BytesIO(ROWS.encode()))
    for place, name in enumerate(("a.zip", "b.tar")):
        found = files_inside([tmp_path / name], None, tmp_path / str(place))
        assert [path.name for path in found.paths] == ["plain.jsonl"]
        assert not found.paths[0].is_symlink()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_is_written_is_counted_as_it_is_written(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 1_000_000)
    path = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        zipped(path, {"1.jsonl": "\n" * 3_000_000})
    else:
        member = tarfile.TarInfo("1.jsonl")
        member.size = 3_000_000
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(member, io.BytesIO(bytes(3_000_000)))
    with pytest.raises(LogError, match=r"more than 0\.0 GB when unpacked; unpack it"):
        inside(path, tmp_path)
    assert sum(one.stat().st_size for one in (tmp_path / "unpacked").rglob("*.jsonl")) <= 1e6


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    path = zipped(tmp_path / "many.zip", {f"{n}.jsonl": "{}" for n in range(5)})
    with pytest.raises(LogError, match="more than 3 files"):
        inside(path, tmp_path)


def test_weights_are_not_unpacked(tmp_path):
    files = {"model.safetensors": "x" * 9, "tokenizer.model": "x", "1.jsonl": ROWS}
    found = inside(zipped(tmp_path / "log.zip", files), tmp_path)
    assert [path.name for path in found.paths] == ["1.jsonl"]
    assert len(list((tmp_path / "unpacked").rglob("*.*"))) == 1


def test_a_locked_archive_is_one_line(tmp_path):
    path = zipped(tmp_path / "log.zip", {"1.jsonl": ROWS})
    content = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(LogError, match="locked with a password"):
        inside(path, tmp_path)


def test_of_a_cut_tar_what_stands_before_is_read_and_said(tmp_path):
    path = tmp_path / "log.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("1.jsonl", "2.jsonl"):
            member = tarfile.TarInfo(name)
            member.size = len(ROWS)
            archive.addfile(member, io.BytesIO(ROWS.encode()))
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 512 + 300])
    with lifted():
        found = read_guarded([path], HowToRead())
    assert found.total >= 12
    assert "log.tar: a damaged archive; what stands before is read" in found.problems.lines()


def test_a_cut_zip_is_one_line(tmp_path):
    path = zipped(tmp_path / "log.zip", {"1.jsonl": ROWS})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LogError, match=r"log\.zip: a damaged zip archive"):
        inside(path, tmp_path)


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "a.jsonl").write_text(ROWS)
    zipped(tmp_path / "sheet.xlsx", {"xl/workbook.xml": "<x/>"})
    zipped(tmp_path / "0.pt", {"0/data.pkl": "x"})
    assert [archive_of(tmp_path / name) for name in ("a.jsonl", "sheet.xlsx", "0.pt", "none")] == [
        "", "", "", ""]  # fmt: skip


def test_a_small_archive_is_read_under_the_ceilings(tmp_path, monkeypatch):
    """A kilobyte of zip may hold gigabytes."""
    path = zipped(tmp_path / "log.zip", {"1.jsonl": ROWS})
    monkeypatch.setattr("workbench.jobs.log_reading._child", lambda order: iter(()))
    monkeypatch.setattr("workbench.jobs.log_reading.load_record", lambda kind, folder: "guarded")
    assert read_guarded([path]) == "guarded"
