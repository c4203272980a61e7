"""slipstick.logs.Archive: a whole archive on disk, looked into without unpacking it."""

from __future__ import annotations

import builtins
import io
import mmap
import os

from slipstick._arguments import thread_count
from slipstick._core import logs as core

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any


class Archive:
    """Random access to the lines and the index of an archive file.

    The file is mapped into memory, not read; only the blocks that are asked for are decoded, one at a time. `len(archive)`
    is the number of lines and iteration gives all of them.

    Args:
        path: str, bytes or os.PathLike of a complete archive.
    Raises:
        OSError: the file cannot be opened.
        CorruptArchiveError: not an archive, truncated, or its index is damaged.

    >>> import slipstick.logs, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "app.slip")
    >>> _ = path.write_bytes(slipstick.logs.compress(b"job 1 done\\njob 2 done\\njob 3 failed\\n"))
    >>> with slipstick.logs.Archive(path) as archive:
    ...     print(len(archive), list(archive.lines(1, 3)))
    3 [b'job 2 done\\n', b'job 3 failed\\n']
    """

    def __init__(self, path: Any) -> None:
        self.path = os.fspath(path)
        with builtins.open(path, "rb", buffering=0) as file:
            empty = os.fstat(file.fileno()).st_size == 0  # mmap refuses what the core refuses with a better message
            data: Any = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._archive: Any = core.Archive(data)
        self._line_count = self._archive.lines

    def _core(self) -> Any:
        if self._archive is None:
            raise ValueError(f"Archive: {os.fsdecode(self.path)!r} is closed")
        return self._archive

    def info(self) -> dict[str, Any]:
        """What the archive holds and where its bytes went. Decodes every block.

        Returns:
            A dict: raw_bytes, archive_bytes, lines, templates, blocks, continued (ints; continued: blocks that decode
            only behind the one before them), level (str), version (int); streams, a
            list of dicts with kind, name, raw_bytes, archive_bytes and values; categories, a dict of archive bytes by
            kind of stream. Streams share one entropy coder, so their sizes are estimates to about a byte each.
        Raises:
            ValueError: the archive is closed.
            CorruptArchiveError: a block is damaged.
        """
        info = self._core().info()
        categories: dict[str, int] = {}
        for stream in info["streams"]:
            categories[stream["kind"]] = categories.get(stream["kind"], 0) + stream["archive_bytes"]
        return {**info, "categories": categories}

    def templates(self) -> list[dict[str, Any]]:
        """The message templates found, by falling count. Decodes every block.

        Returns:
            A list of dicts: text (bytes, with <*> for what varies; a literal <*> is shown as <\\*>), count (lines), example (bytes, the first such line).
        Raises:
            ValueError, CorruptArchiveError: as of `info`.
        """
        return self._core().templates()

    def columns(self, template: str | bytes) -> dict[str, Any]:
        """What varies in the lines of a template, as NumPy arrays. Decodes every block; imports NumPy.

        Args:
            template: text as templates() gives it; a str stands for its UTF-8.
        Returns:
            A dict of arrays of equal length, one entry a line: "line" (int64, numbers as lines() counts them), then "0",
            "1", ... for the slots from left to right. A slot whose values are all whole numbers is int64, with a decimal
            point float64, times of day timedelta64[ns]; others are bytes (dtype S, or object where one is longer than 256
            bytes or ends in a NUL), as are hexadecimal words. Without such lines there is only "line", empty.
        Raises:
            TypeError: template is neither str nor bytes.
            ValueError, CorruptArchiveError: as of `info`.
        Notes:
            int64 is exact for the up to 18 digits that a number has; float64 is the nearest to the decimal. Leading zeros
            and spaces are not seen in numbers.
        """
        if not isinstance(template, (str, bytes)):
            raise TypeError(f"columns: template is {type(template).__name__}; expected str or bytes")
        from . import _columns

        text = template.encode("utf-8", "surrogateescape") if isinstance(template, str) else template
        return _columns.arrays(*self._core().columns(text))

    def grep(
        self,
        pattern: str | bytes,
        *,
        syntax: str = "extended",
        ignore_case: bool = False,
        invert: bool = False,
        only_matching: bool = False,
        since: str | datetime = "",
        until: str | datetime = "",
        threads: int | None = None,
    ) -> Iterator[tuple[int, bytes]]:
        """The lines that a pattern selects, in order, as `LC_ALL=C grep -a -E` finds them.

        Blocks that cannot have such a line, by what their headers say, are not decoded; the others are decoded one a
        thread, while the iterator is asked for more.

        Args:
            pattern: bytes, or a str, which stands for its UTF-8. Its lines are alternatives.
            syntax: "extended" (as grep -E), "basic" (as grep) or "fixed" (as grep -F). No back-references.
            ignore_case: whether ASCII letters match in either case.
            invert: the lines that do not match.
            only_matching: instead of a line its matches that are not empty, each leftmost and longest.
            since, until: only lines whose time is since <= time < until (--after and --before of the command); a str written
                as in logs ("2024-05-01 12:00:00", "2024-05-01", "May 1 12:00", seconds since 1970) or a datetime without
                zone. Times are compared as they are written; where one side has no year, years do not count; a line without a time has that of the line before.
            threads: positive int; default see slipstick.set_num_threads. Does not change the result.
        Returns:
            An iterator of (line number, bytes): numbers as lines() counts them, from 0; a line has its end, a match none.
        Raises:
            TypeError: pattern is neither str nor bytes.
            ValueError: syntax is none of these, pattern is no pattern, a time is none, or the archive is closed.
            CorruptArchiveError: while it is asked for more, when damage is met.
            UnsupportedError: pattern has a back-reference.
            LimitExceededError: pattern is too large.
        """
        if not isinstance(pattern, (str, bytes)):
            raise TypeError(f"grep: pattern is {type(pattern).__name__}; expected str or bytes")
        search = core.Grep(
            self._core(),
            pattern.encode("utf-8", "surrogateescape") if isinstance(pattern, str) else pattern,
            syntax=syntax,
            ignore_case=ignore_case,
            invert=invert,
            only_matching=only_matching,
            since=str(since),
            until=str(until),
            threads=thread_count("grep", threads),
        )
        return _grep_lines(search)

    def lines(self, start: int | None = None, stop: int | None = None) -> Iterator[bytes]:
        """Lines start to stop - 1, each with its end, as slices count them: from 0, negative numbers from the end.

        A line ends with b"\\n"; the last one may lack it. Only the blocks that hold these lines are decoded.

        Raises:
            TypeError: start or stop is no whole number.
            ValueError, CorruptArchiveError: as of `info`.
        """
        archive = self._core()
        first, last, _ = slice(start, stop).indices(len(self))
        return _lines(archive, first, last)

    def __len__(self) -> int:
        self._core()
        return self._line_count

    def __iter__(self) -> Iterator[bytes]:
        return self.lines()

    def close(self) -> None:
        """Unmaps the file. Iterators that are still alive keep it mapped until they end."""
        self._archive = None

    def __enter__(self) -> Archive:
        self._core()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _lines(archive: Any, start: int, stop: int) -> Iterator[bytes]:
    """Lines of decoded blocks. A block may end inside a line, which the next ones then go on with."""
    pieces: list[bytes] = []
    for index in range(_block_of_line(archive, start), archive.block_count):
        number = archive.block(index)["first_line"]
        if number >= stop:
            break
        for line in io.BytesIO(archive.decompress_block(index)):  # splits at b"\n" only, unlike bytes.splitlines
            if number >= stop:
                return
            if number >= start:
                pieces.append(line)
            if line.endswith(b"\n"):
                if number >= start:
                    yield b"".join(pieces)
                    pieces.clear()
                number += 1
    if pieces:
        yield b"".join(pieces)


def _grep_lines(search: Any) -> Iterator[tuple[int, bytes]]:
    while (batch := search.next()) is not None:
        for number, line, _ in batch.lines():
            yield number, line


def line_pieces(archive: Any, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of lines start to stop - 1 of a core archive, in pieces of any kind."""
    for index in range(_block_of_line(archive, start), archive.block_count):
        first = archive.block(index)["first_line"]
        if first >= stop:
            break
        raw = archive.decompress_block(index)
        begin = _after_feeds(raw, 0, start - first)
        piece = raw[begin : _after_feeds(raw, begin, stop - max(first, start))]
        if piece:
            yield piece


def _after_feeds(raw: bytes, at: int, count: int) -> int:
    for _ in range(count):
        feed = raw.find(b"\n", at)
        if feed < 0:
            return len(raw)
        at = feed + 1
    return at


def _block_of_line(archive: Any, line: int) -> int:
    """The block in which a line begins."""
    low, high = 0, archive.block_count
    while low + 1 < high:
        middle = (low + high) // 2
        if archive.block(middle)["first_line"] <= line:
            low = middle
        else:
            high = middle
    while low > 0 and archive.block(low)["first_line"] == line and _ends_inside_line(archive, low - 1):
        low -= 1
    return low


def _ends_inside_line(archive: Any, index: int) -> bool:
    """A block counts the line it ends in; the next block's first line is then that very line."""
    block = archive.block(index)
    return block["first_line"] + block["lines"] > archive.block(index + 1)["first_line"]
