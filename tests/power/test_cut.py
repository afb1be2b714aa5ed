"""What a cut does to what was not synced, on the disk alone: kept, lost, torn, in any order, sizes and names too."""

from __future__ import annotations

import pytest

from tests.power.cut import MANNERS, cut
from tests.power.disk import Disk, File, Folder, Resize, Write

OLD, NEW = b"o" * 16384, b"n" * 16384
SEEDS = range(200)


def with_file(content: bytes) -> tuple[Disk, File]:
    """A disk with one file on it, both synced."""
    disk, file = Disk(), File(0o600)
    disk.create("/file", file)
    file.change(Write(0, content))
    file.sync()
    disk.sync(disk.root)
    return disk, file


def left(content: bytes, *changes: Write | Resize, seed: int, manner: str | None = None) -> bytes:
    """What these changes, none of them synced, leave of a file."""
    disk, file = with_file(content)
    for change in changes:
        file.change(change)
    cut(disk, seed, manner)
    assert file.content == file.synced
    assert not file.pending
    return bytes(file.content)


@pytest.mark.parametrize("manner", sorted(set(MANNERS)))
def test_what_was_synced_is_kept(manner: str) -> None:
    for seed in SEEDS:
        disk, _ = with_file(OLD)
        cut(disk, seed, manner)
        assert disk.file("/file").content == OLD


def test_a_write_is_torn_at_sectors() -> None:
    """Each sector is the old one or the new one."""
    sizes = set()
    for seed in SEEDS:
        found = left(OLD, Write(0, NEW), seed=seed, manner="in any order")
        for size in (512, 4096):
            sectors = {found[at : at + size] for at in range(0, len(found), size)}
            if sectors == {OLD[:size], NEW[:size]}:
                sizes.add(size)
        assert {found[at : at + 512] for at in range(0, len(found), 512)} <= {OLD[:512], NEW[:512]}
    assert sizes == {512, 4096}


def test_a_torn_growth_may_leave_zeros_and_any_of_the_sizes() -> None:
    found = [left(b"", Write(0, NEW[:8192]), seed=seed, manner="in any order") for seed in SEEDS]
    assert any(content and not content.strip(b"\0") for content in found)
    assert {len(content) for content in found} >= {0, 4096, 8192}


def test_a_later_write_may_be_kept_and_an_earlier_one_lost() -> None:
    changes = Write(0, b"1"), Write(1, b"2")
    assert {left(b"--", *changes, seed=seed, manner="in any order") for seed in SEEDS} == {
        *(b"--", b"1-", b"-2", b"12")
    }


def test_in_order_nothing_is_kept_that_came_after_what_was_lost() -> None:
    changes = Write(0, b"1"), Write(1, b"2")
    assert {left(b"--", *changes, seed=seed, manner="in order") for seed in SEEDS} == {b"--", b"1-", b"12"}


def test_a_truncation_is_done_or_not() -> None:
    assert {left(b"1234", Resize(2), seed=seed) for seed in SEEDS} == {b"1234", b"12"}


def test_the_same_seed_leaves_the_same() -> None:
    changes = [Write(at * 100, NEW) for at in range(20)]
    for seed in SEEDS:
        assert left(OLD, *changes, seed=seed) == left(OLD, *changes, seed=seed)


def test_names_survive_in_their_order_in_each_folder() -> None:
    """Of one folder a later one never without the earlier ones; folders do not wait for each other."""
    found = set()
    for seed in SEEDS:
        disk = Disk()
        for folder in "/a", "/b":
            disk.create(folder, Folder(0o700))
        disk.sync(disk.root)
        for path in "/a/1", "/b/1", "/a/2":
            disk.create(path, File(0o600))
        cut(disk, seed)
        found.add(tuple("".join(sorted(disk.folder(folder).entries)) for folder in ("/a", "/b")))
    assert found == {(a, b) for a in ("", "1", "12") for b in ("", "1")}


def test_a_rename_is_done_wholly_or_not_at_all() -> None:
    """Whatever survives, the file has one of its names, and never both."""
    found = set()
    for seed in SEEDS:
        disk, _ = with_file(OLD)
        disk.create("/folder", Folder(0o700))
        disk.sync(disk.root)
        disk.rename("/file", "/folder/file")
        cut(disk, seed)
        found.add((*sorted(disk.root.entries), *disk.folder("/folder").entries))
    assert found == {("file", "folder"), ("folder", "file")}


def test_what_a_rename_has_moved_out_does_not_come_back() -> None:
    """Where the target's folder is synced first, and then the other, in which the file was created."""
    disk = Disk()
    for folder in "/from", "/to":
        disk.create(folder, Folder(0o700))
    disk.sync(disk.root)
    disk.create("/from/file", File(0o600))
    disk.rename("/from/file", "/to/file")
    disk.sync(disk.folder("/to"))
    disk.sync(disk.folder("/from"))
    cut(disk, 1, "nothing")
    assert (list(disk.folder("/from").entries), list(disk.folder("/to").entries)) == ([], ["file"])


def test_the_toll_says_what_was_done() -> None:
    disk, file = with_file(OLD)
    file.change(Write(0, NEW))
    disk.create("/other", File(0o600))
    toll = cut(disk, 1, "nothing")
    assert (toll.kept, toll.torn, toll.lost, toll.names_kept, toll.names_lost) == (0, 0, 1, 0, 1)
