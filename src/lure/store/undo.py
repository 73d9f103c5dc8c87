"""What a process has written and not committed: taken back when bad input turns up later."""

from contextlib import suppress
from pathlib import Path

from lure.store.durable import remove


class UndoList:
    """Paths that this process made, in the order in which it made them, and what it took over from one that died."""

    def __init__(self) -> None:
        self._made: list[tuple[Path, bool]] = []

    def add(self, path: Path, whole: bool = True) -> None:
        """Note a path that is about to be made; one that exists already is left alone.

        Args:
            path: a file or folder.
            whole: whether a folder goes with all that is in it; otherwise only once it is empty.
        """
        if not path.exists():
            self._made.append((path, whole))

    def adopt(self, path: Path) -> None:
        """Note a path that an earlier process left, and that is this one's to finish or to remove."""
        self._made.append((path, True))

    def undo(self) -> None:
        """Remove what was noted, the latest first."""
        with suppress(OSError):
            for path, whole in reversed(self._made):
                if whole or not path.is_dir():
                    remove(path)
                elif not any(path.iterdir()):
                    path.rmdir()
        self.clear()

    def clear(self) -> None:
        """Keep all that was noted: it is committed."""
        self._made.clear()
