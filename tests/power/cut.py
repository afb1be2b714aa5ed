"""What a cut of the power leaves of what was not synced: all of it, some, none, or torn to sectors; never what was."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

from tests.power.disk import Disk, File, Folder, Naming, Node, Resize, Write, keep

SECTOR_BYTES = (512, 4096)
MANNERS = ("nothing", "everything", "in order", "in any order", "in any order")
"""What may survive: nothing that was not synced; all; of each file and folder what came first; whatever may be.

The first two are what a disk does that writes late or at once; the last is the worst that POSIX allows.
"""


@dataclass
class Toll:
    """What the cut did to what was not synced."""

    manner: str
    sector_bytes: int
    kept: int = 0
    torn: int = 0
    lost: int = 0
    names_kept: int = 0
    names_lost: int = 0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def cut(disk: Disk, seed: int, manner: str | None = None) -> Toll:
    """Leave of the disk what is found on it when the power is back; the same seed does the same to the same disk."""
    chance = random.Random(seed)
    toll = Toll(manner or chance.choice(MANNERS), chance.choice(SECTOR_BYTES))
    beside = Toll(toll.manner, toll.sector_bytes)
    for file, name in sorted(disk.files().items(), key=lambda found: found[0].number):
        # The index of SQLite's log is never synced, and made anew by who opens the file.
        _leave(file, beside if name.endswith("-shm") else toll, chance)
    _leave_names(disk.journal, toll, chance)
    _forget(disk.root)
    disk.journal.clear()
    return toll


def _leave(file: File, toll: Toll, chance: random.Random) -> None:
    """Apply to what is synced whatever of the rest survives."""
    first_lost = {
        "nothing": 0,
        "everything": len(file.pending),
        "in order": chance.randint(0, len(file.pending)),
        "in any order": -1,
    }[toll.manner]
    for position, change in enumerate(file.pending):
        if first_lost == -1:
            fate = chance.choice(("kept", "torn", "lost"))
        else:
            fate = "kept" if position < first_lost else "lost"
            if toll.manner == "in order" and position == first_lost:
                fate = "torn"  # The write that was under way.
        if fate == "torn" and isinstance(change, Resize):
            fate = "lost"
        setattr(toll, fate, getattr(toll, fate) + 1)
        if fate == "kept":
            change.apply(file.synced)
        elif fate == "torn" and isinstance(change, Write):
            _tear(change, file.synced, toll.sector_bytes, chance)
    file.pending.clear()


def _tear(write: Write, content: bytearray, sector_bytes: int, chance: random.Random) -> None:
    """Some of the sectors arrive, and the size is the new one, the old one, or one in between."""
    end = write.offset + len(write.data)
    at = write.offset
    while at < end:
        until = min(end, (at // sector_bytes + 1) * sector_bytes)
        if chance.random() < 0.5:
            Write(at, write.data[at - write.offset : until - write.offset]).apply(content)
        at = until
    if chance.random() < 0.5:
        Resize(max(end, len(content))).apply(content)


def _leave_names(journal: list[Naming], toll: Toll, chance: random.Random) -> None:
    """In each folder a first part of what was done to its names survives: file systems keep these in their order."""
    chances = {"nothing": 0.0, "everything": 1.0}.get(toll.manner, chance.random())
    stopped: set[Folder] = set()
    for naming in journal:
        if naming.folders & stopped or chance.random() >= chances:
            stopped |= naming.folders
            toll.names_lost += 1
        else:
            keep(naming)
            toll.names_kept += 1


def _forget(node: Node) -> None:
    """Let programs see what has survived."""
    if isinstance(node, Folder):
        node.entries = dict(node.synced)
        for child in node.entries.values():
            _forget(child)
    else:
        node.content = bytearray(node.synced)
