"""Room that is kept for a day on which the disk is full."""

from __future__ import annotations

from pathlib import Path

from gateway.embedded.reserve import Reserve, bytes_for
from tests.support.disks import small_disk


def test_it_is_a_file_of_its_own(tmp_path: Path) -> None:
    """8 MiB that are really taken from the disk, and given back."""
    reserve = Reserve(tmp_path / "gateway.db")
    assert not reserve.release()
    assert reserve.fill()
    assert reserve.fill()
    file = tmp_path / "gateway.db-reserve"
    assert file.stat().st_size == bytes_for(tmp_path / "gateway.db") == 8 << 20
    assert file.stat().st_blocks * 512 >= 8 << 20
    assert file.stat().st_mode & 0o777 == 0o600
    assert reserve.release()
    assert file.stat().st_blocks == 0
    assert not reserve.release()


def test_what_cannot_be_had_is_not_taken_in_part(tmp_path: Path) -> None:
    """Nor is a folder that is gone, or a reserve that cannot be opened, an error."""
    (tmp_path / "gateway.db-reserve").mkdir()
    reserve = Reserve(tmp_path / "gateway.db")
    assert not reserve.fill()
    assert not reserve.release()


def test_on_a_small_disk_it_is_small(tmp_path: Path) -> None:
    """An eighth; and of a full disk nothing is taken."""
    with small_disk(tmp_path / "disk", mib=4) as disk:
        reserve = Reserve(disk / "gateway.db")
        assert reserve.fill()
        assert (disk / "gateway.db-reserve").stat().st_size == 512 << 10
        assert reserve.release()
        (disk / "ballast").write_bytes(bytes((4 << 20) - (256 << 10)))
        assert not reserve.fill()
        assert (disk / "gateway.db-reserve").stat().st_blocks == 0
        (disk / "ballast").unlink()
        assert reserve.fill()
