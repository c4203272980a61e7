"""A file that appears under its name only when it is whole.

Bytes go to a temporary name in the same directory, which is renamed at the end and removed on any failure. Nothing is
synced to the disk: this protects from failed work, not from a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat

from ._stream import write_all

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class AtomicFile:
    """A file being written; commit() gives it its name, discard() leaves no trace.

    Args:
        path: the final name. A symbolic link is followed, so the link itself stays. A device or a pipe is written
            directly: there is nothing to replace.
        overwrite: whether an existing file may be replaced.
        like: os.stat_result of a file whose mode, owner (where permitted) and times the new file takes; default: the
            mode that the umask gives.
    Raises:
        FileExistsError: the name is taken and overwrite is false, now or at commit().
    """

    def __init__(self, path: Any, *, overwrite: bool, like: os.stat_result | None = None) -> None:
        self.path = os.fsdecode(path)
        self._overwrite = overwrite
        self._like = like
        self._temporary: str | None = None
        self._target = os.path.realpath(self.path)
        if _is_special(self._target):
            self._like = None
            self._file = io.FileIO(self._target, "wb")
            return
        if not overwrite and os.path.lexists(self.path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path)
        if os.path.isdir(self._target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        self._open_temporary()

    def _open_temporary(self) -> None:
        # The final name is not part of the temporary one, which would overflow the longest names a file system takes.
        name = os.path.join(os.path.dirname(self._target), f".slipstick-{os.urandom(8).hex()}.tmp")
        mode = 0o600 if self._like else 0o666
        try:
            self._file = io.FileIO(name, "xb", opener=lambda path, flags: os.open(path, flags, mode))
        except OSError as error:
            error.filename = self.path  # the temporary name would tell the reader nothing
            raise
        except BaseException:  # a signal between the creation and here
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        self._temporary = name

    def write(self, data: Any) -> None:
        with self._named():
            write_all(self._file, data)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Gives an OSError, such as that of a full disk, the name that its reader knows."""
        try:
            yield
        except OSError as error:
            error.filename = self.path
            raise

    def commit(self) -> None:
        """Gives the file its name. On failure the temporary file is removed."""
        try:
            if self._like is not None:
                _copy_attributes(self._file.fileno(), self._like)
            with self._named():
                self._file.close()
            if self._temporary is not None:
                self._rename(self._temporary)
                self._temporary = None
        except BaseException:
            self.discard()
            raise

    def _rename(self, temporary: str) -> None:
        if not self._overwrite:
            # A hard link, unlike a rename, fails when the name was taken in the meantime.
            try:
                os.link(temporary, self._target)
            except FileExistsError:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path) from None
            except OSError:  # a file system without hard links
                if os.path.lexists(self._target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path) from None
            else:
                os.unlink(temporary)
                return
        try:
            os.replace(temporary, self._target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def discard(self) -> None:
        """Removes what was written; harmless when repeated or after commit()."""
        self._file.close()
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = None

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, exception_type: Any, exception: Any, traceback: Any) -> None:
        if exception_type is None:
            self.commit()
        else:
            self.discard()


def _is_special(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _copy_attributes(descriptor: int, like: os.stat_result) -> None:
    """Mode, owner and times as far as the file system and our rights allow; until then only the owner may read it."""
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):  # only root may give files away
            os.fchown(descriptor, like.st_uid, like.st_gid)
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & 0o777)
    if os.utime in os.supports_fd:
        with contextlib.suppress(OSError):
            os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))
