"""A disk that knows what was synced: what programs see of it, and beside it what would be left if the power went now.

Contents are kept by fsync and fdatasync of the file, names (creation, renaming, deletion) by fsync of their folder, as
POSIX has it and no more: a synced file whose folder was not synced may be gone. Modes and times count for nothing and
are kept at once.
"""

from __future__ import annotations

import errno
import itertools
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that a program wrote."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Write them; what lies between the end so far and the offset reads as zeros."""
        if self.offset > len(content):
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Resize:
    """A truncation, or a growth that reads as zeros."""

    size: int

    def apply(self, content: bytearray) -> None:
        """Cut off or fill up."""
        if self.size > len(content):
            content.extend(bytes(self.size - len(content)))
        del content[self.size :]


_numbers = itertools.count(2)


@dataclass(eq=False, slots=True)
class File:
    """Its content as programs see it, as it was synced last, and what was done to it since."""

    mode: int
    content: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_numbers))
    changed_ns: int = field(default_factory=time.time_ns)

    def change(self, change: Write | Resize) -> None:
        """What a program does to it."""
        change.apply(self.content)
        self.pending.append(change)
        self.changed_ns = time.time_ns()

    def sync(self) -> None:
        """From now on its content outlives a cut, though perhaps not its name."""
        for change in self.pending:
            change.apply(self.synced)
        self.pending.clear()


@dataclass(eq=False, slots=True)
class Folder:
    """Its entries as programs see them, and as they were synced last."""

    mode: int
    entries: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_numbers))
    changed_ns: int = field(default_factory=time.time_ns)


Node = File | Folder


@dataclass(frozen=True, eq=False, slots=True)
class Naming:
    """Entries that change together, wholly or not at all: one, or the two of a rename. None deletes."""

    entries: tuple[tuple[Folder, str, Node | None], ...]

    @property
    def folders(self) -> set[Folder]:
        """The folders whose entries they are."""
        return {folder for folder, _, _ in self.entries}


class Disk:
    """The tree under ``root``. Paths are absolute and end in no slash. Raises ``OSError`` as a file system does."""

    def __init__(self, root: Folder | None = None) -> None:
        self.root = root or Folder(0o755)
        self.journal: list[Naming] = []

    def find(self, path: str) -> Node:
        """What the path leads to."""
        node: Node = self.root
        for name in path.split("/")[1:] if path != "/" else ():
            if not isinstance(node, Folder):
                raise OSError(errno.ENOTDIR, path)
            if (found := node.entries.get(name)) is None:
                raise OSError(errno.ENOENT, path)
            node = found
        return node

    def file(self, path: str) -> File:
        """The file there."""
        node = self.find(path)
        if isinstance(node, Folder):
            raise OSError(errno.EISDIR, path)
        return node

    def folder(self, path: str) -> Folder:
        """The folder there."""
        node = self.find(path)
        if isinstance(node, File):
            raise OSError(errno.ENOTDIR, path)
        return node

    def create(self, path: str, node: Node) -> None:
        """Give a new file or folder this name."""
        folder, name = self._place(path)
        if name in folder.entries:
            raise OSError(errno.EEXIST, path)
        self._name((folder, name, node))

    def delete(self, path: str) -> None:
        """Take a file's or an empty folder's name away."""
        node = self.find(path)
        if isinstance(node, Folder) and node.entries:
            raise OSError(errno.ENOTEMPTY, path)
        self._name((*self._place(path), None))

    def rename(self, old: str, new: str) -> None:
        """Give it another name, whoever had that before."""
        node = self.find(old)
        if old != new:
            self._name((*self._place(old), None), (*self._place(new), node))

    def sync(self, folder: Folder) -> None:
        """From now on the names in this folder outlive a cut; of other folders' what renames have tied to them."""
        touched = {folder}
        tied: list[Naming] = []
        for naming in reversed(self.journal):
            if naming.folders & touched:
                touched |= naming.folders
                tied.append(naming)
        for naming in reversed(tied):
            keep(naming)
            self.journal.remove(naming)

    def sync_names_of(self, file: File) -> None:
        """From now on the names of the file outlive a cut, and those of the folders that lead to it."""
        nodes: set[Node] = {file}
        while found := {
            folder
            for naming in self.journal
            for folder, _, node in naming.entries
            if node in nodes and folder not in nodes
        }:
            nodes |= found
        for folder in nodes - {file}:
            assert isinstance(folder, Folder)
            self.sync(folder)

    def sync_all(self) -> None:
        """Have everything outlive a cut."""
        for file in self.files():
            file.sync()
        for naming in self.journal:
            keep(naming)
        self.journal.clear()

    def files(self) -> dict[File, str]:
        """Every file that has, or by the last sync had, a name; and that."""
        found: dict[Node, str] = {}
        folders = [self.root]
        while folders:
            folder = folders.pop()
            for name, node in (*folder.synced.items(), *folder.entries.items()):
                if node not in found and isinstance(node, Folder):
                    folders.append(node)
                found[node] = name
        return {node: name for node, name in found.items() if isinstance(node, File)}

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        return self.folder(parent or "/"), name

    def _name(self, *entries: tuple[Folder, str, Node | None]) -> None:
        for folder, name, node in entries:
            _set(folder.entries, name, node)
            folder.changed_ns = time.time_ns()
        self.journal.append(Naming(entries))


def keep(naming: Naming) -> None:
    """Have these entries outlive a cut."""
    for folder, name, node in naming.entries:
        _set(folder.synced, name, node)


def _set(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node
