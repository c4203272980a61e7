"""Ranges of bytes of a file, read past the system's cache.

What the cache holds is taken from it, the rest is read with O_DIRECT: to fill the cache with a file larger than it costs more than the disk takes, several times
more where pages are new to the machine. Where a file system cannot do that, the read is an ordinary one.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLOCK = 4096  # bytes: begin, length and memory of a direct read are multiples of it


class RangeFile:
    """A file open for `read`, by several threads if need be; each brings its own room.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._plain = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._direct: int | None = None
        if hasattr(os, "O_DIRECT"):
            try:
                self._direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
            except OSError:
                pass  # a file system without it
            else:
                self._advise("RANDOM")  # or the question what is cached would begin to fill the cache

    def close(self) -> None:
        os.close(self._plain)
        if self._direct is not None:
            os.close(self._direct)

    @staticmethod
    def room(count: int) -> mmap.mmap:
        """Memory for any `count` bytes of a file."""
        return mmap.mmap(-1, count + 2 * BLOCK)

    def read(self, room: mmap.mmap, start: int, count: int) -> Array:
        """The bytes [start, start + count) as a uint8 view of the room.

        Raises:
            OSError: the file cannot be read.
            ValueError: it ends before.
        """
        shift = start % BLOCK
        view = memoryview(room)[shift : shift + count]
        if self._direct is None or not (self._is_cached(view, start) or self._read_direct(room, start - shift, shift + count)):
            self._read_plain(view, start)
        return np.frombuffer(room, np.uint8, count, shift)

    def _advise(self, pattern: str) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._plain, 0, 0, getattr(os, f"POSIX_FADV_{pattern}"))

    def _is_cached(self, view: memoryview, start: int) -> bool:
        """Whether all of it was in the system's cache, and now is in the view."""
        try:
            return os.preadv(self._plain, [view], start, os.RWF_NOWAIT) == view.nbytes
        except OSError:  # not there, or a file system that cannot tell
            return False

    def _read_direct(self, room: mmap.mmap, start: int, count: int) -> bool:
        """Whether `count` bytes from a multiple of BLOCK on came to the beginning of the room."""
        assert self._direct is not None
        done, whole = 0, -(-count // BLOCK) * BLOCK
        while done < count and done % BLOCK == 0:
            try:
                part = os.preadv(self._direct, [memoryview(room)[done:whole]], start + done)
            except OSError:  # refused by the file system; if the disk has failed, the ordinary read will say so
                return False
            if part == 0:
                return False
            done += part
        return done >= count

    def _read_plain(self, view: memoryview, start: int) -> None:
        self._advise("SEQUENTIAL")
        while view.nbytes:
            count = os.preadv(self._plain, [view], start)
            if count == 0:
                raise ValueError(f"NpyChunks: {self._path} became shorter while it was read")
            view, start = view[count:], start + count
