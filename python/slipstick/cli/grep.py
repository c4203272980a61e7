"""slipstick grep: the lines of archives that match a pattern, as grep prints them."""

from __future__ import annotations

import os

from slipstick._core import logs as core

from . import _files, _options, _unpack
from ._messages import DONE, FAILED, NOTHING_FOUND, UsageError, complain
from ._parser import Option, Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Prints the lines of each FILE.slip that match PATTERN, as grep does of the raw log.

Lines, order, bytes and exit status are those of LC_ALL=C grep -a on the unpacked
files: PATTERN is a basic regular expression, -E makes it an extended one, -F plain
strings; its lines are alternatives. Back-references are refused, and so is a letter
behind a backslash that means nothing. Blocks whose headers say that they cannot
match are not decoded. Without FILE, or for -, an archive is read from standard
input. Exit status: 0 a line was selected, 1 none was, 2 an error."""

EXAMPLES = """
slipstick grep -n 'Failed password' auth.log.slip
slipstick grep -c -E 'timeout|refused' *.slip
slipstick grep -i -C 3 outofmemory app.log.slip
slipstick grep --after 'May 1 06:00' --before 'May 1 07:00' sshd auth.log.slip
slipstick grep -oE 'user=[a-z]+' app.log.slip | sort | uniq -c"""


def _count(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a number of lines; expected 0 or more")
    return min(int(text), 1 << 62)


EXTENDED = Option(("-E", "--extended-regexp"), "PATTERN is an extended regular expression")
FIXED = Option(("-F", "--fixed-strings"), "PATTERN is plain strings, one a line")
IGNORE_CASE = Option(("-i", "--ignore-case"), "ASCII letters match in either case")
INVERT = Option(("-v", "--invert-match"), "lines that do not match")
COUNT = Option(("-c", "--count"), "print only how many lines were selected")
LIST = Option(("-l", "--files-with-matches"), "print only the names of archives with a selected line")
NUMBERS = Option(("-n", "--line-number"), "print line numbers")
ONLY = Option(("-o", "--only-matching"), "print only the parts of a line that match")
NAMES = Option(("-H", "--with-filename"), "print names (default for several archives)")
NO_NAMES = Option(("-h", "--no-filename"), "print no names")
AFTER = Option(("-A", "--after-context"), "lines of context after a selected one", metavar="N", parse=_count)
BEFORE = Option(("-B", "--before-context"), "lines of context before", metavar="N", parse=_count)
CONTEXT = Option(("-C", "--context"), "lines of context on both sides", metavar="N", parse=_count)
QUIET = Option(("-q", "--quiet"), "print nothing; the exit status tells")


def run(arguments: Arguments) -> int:
    if not arguments.operands:
        raise UsageError("no PATTERN given")
    if arguments.extended_regexp and arguments.fixed_strings:
        raise UsageError("-E and -F exclude each other")
    pattern, *arguments.operands = arguments.operands
    if arguments.invert_match and not pattern:
        return NOTHING_FOUND  # as grep does: every line matches, so it looks at no file
    paths = _files.inputs(arguments)
    try:
        search = _Search(pattern, arguments, names=(arguments.with_filename or len(paths) > 1) and not arguments.no_filename)
    except ValueError as error:  # of the core, about the pattern
        complain(str(error))
        return FAILED
    code = _files.for_each(paths, search.file)
    if search.found and (arguments.quiet or code == DONE):
        return DONE
    return FAILED if code != DONE else NOTHING_FOUND


class _Search:
    def __init__(self, pattern: str, arguments: Arguments, *, names: bool) -> None:
        around = arguments.context
        before = around if arguments.before_context is None else arguments.before_context
        after = around if arguments.after_context is None else arguments.after_context
        self._arguments = arguments
        self._names = names
        self._brief = arguments.quiet or arguments.files_with_matches
        self._options = {
            "syntax": "extended" if arguments.extended_regexp else "fixed" if arguments.fixed_strings else "basic",
            "ignore_case": arguments.ignore_case,
            "invert": arguments.invert_match,
            "only_matching": arguments.only_matching,
            "count_only": self._brief or arguments.count,
            "before": before or 0,
            "after": after or 0,
            "max_memory": arguments.max_memory or 0,
            "threads": arguments.threads or 0,
            "since": arguments.after or "",
            "until": arguments.before or "",
        }
        grouped = before is not None or after is not None
        self._printer = core.GrepPrinter(names=names, numbers=arguments.line_number, groups=grouped)
        self._pattern = os.fsencode(pattern)
        core.Grep(core.Archive(core.Compressor("fast").finish()), self._pattern, **self._options)  # a bad pattern is told once
        self._output = _files.Stdout()
        self.found = False

    def file(self, path: str) -> None:
        if self._arguments.quiet and self.found:
            return
        shown = os.fsencode("(standard input)" if path == _files.STREAM else path)
        count = 0
        grep = core.Grep(_unpack.archive(path), self._pattern, **self._options)
        self._printer.begin_file(shown)
        while (batch := grep.next()) is not None:
            count += batch.selected
            if batch.selected:
                self.found = True
                if self._brief:
                    break
            if not self._options["count_only"]:
                self._output.write(self._printer.print(batch))
        if self._arguments.quiet:
            return
        if self._arguments.files_with_matches:
            self._output.write(shown + b"\n" if count else b"")
        elif self._arguments.count:
            self._output.write((shown + b":" if self._names else b"") + b"%d\n" % count)


VERB = Verb(
    name="grep",
    operands=("PATTERN FILE.slip...", "PATTERN -"),
    description=DESCRIPTION,
    options=(
        EXTENDED,
        FIXED,
        IGNORE_CASE,
        INVERT,
        COUNT,
        LIST,
        NUMBERS,
        ONLY,
        NAMES,
        NO_NAMES,
        AFTER,
        BEFORE,
        CONTEXT,
        _options.SINCE,
        _options.UNTIL,
        _options.THREADS,
        _options.MAX_MEMORY,
        QUIET,
    ),
    examples=EXAMPLES,
    run=run,
)
