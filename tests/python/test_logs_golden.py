# Contract: archives of every format version that was released decode for ever, to the bytes that their script describes.
import re
import runpy
from pathlib import Path

import pytest

from slipstick import logs
from slipstick._core import logs as core

GOLDEN = Path(__file__).parents[1] / "golden"
CONTENTS = runpy.run_path(str(GOLDEN / "make.py"))["contents"]()
FORMAT = Path(__file__).parents[2] / "cpp" / "logs" / "FORMAT.md"


@pytest.mark.parametrize("name", CONTENTS)
def test_golden_archive_decodes(name):
    assert logs.decompress((GOLDEN / name).read_bytes()) == CONTENTS[name][0]


def test_golden_archives_cover_every_method():
    methods = set()
    for name in CONTENTS:
        with logs.Archive(GOLDEN / name) as archive:
            methods |= {stream["kind"] + " " + stream["name"] for stream in archive.info()["streams"]}
    assert {
        "bytes stored",
        "bytes zstd",
        "bytes trimmed",
        "bytes continued",
        "templates of lines",
        "columns of all kinds, packed together",
    } <= methods


def test_records_of_a_golden_archive_still_say_what_cannot_be_found():
    archive = core.Archive((GOLDEN / "v1_records.slip").read_bytes())

    def found(pattern, **options):
        grep = core.Grep(archive, pattern, count_only=True, **options)
        return sum(batch.selected for batch in iter(grep.next, None)), grep.blocks_decoded

    assert found(b"stored block") == (500, 1)
    assert found(b"watermelon") == (0, 0)
    assert found(b"", since="2026-11-25 01:00", until="2026-11-25 02:00") == (60, 1)
    assert found(b"", since="2026-11-26") == found(b"", since="2026-01-01", until="2026-11-25 00:00:07") == (0, 0)


def test_the_empty_archive_of_the_format_document_is_what_is_written():
    section = FORMAT.read_text().split("The empty archive\n")[1]
    rows = re.search(r"```\n(.*?)```", section, re.DOTALL).group(1).splitlines()
    document = bytes.fromhex("".join(row[:33] for row in rows))
    assert logs.decompress(document) == b""
    assert logs.compress(b"") == document
