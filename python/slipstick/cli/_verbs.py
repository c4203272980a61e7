"""The table of verbs. A new verb is a file that defines VERB, and a row here."""

from __future__ import annotations

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Verb

# Verb and what it does; slipstick.cli.VERB is imported only when the verb is used.
SUMMARIES = {
    "compress": "pack logs, each into FILE.slip",
    "decompress": "give back the file that an archive holds",
    "cat": "write what archives hold to standard output",
    "grep": "print the lines that match a pattern",
    "append": "add more log at the end of an archive",
    "concat": "join archives to one",
    "recover": "save the whole blocks of a damaged archive",
    "test": "check that archives are whole",
    "info": "show ratio, lines, templates, where the bytes went",
    "templates": "show what kinds of lines there are, and how many",
    "demo": "show what slipstick does, on data that is here",
    "completion": "print the completion script of a shell",
}

# What other tools call the same; only for the hint to who types it.
OTHER_NAMES = {
    "add": "append",
    "check": "test",
    "extract": "decompress",
    "join": "concat",
    "list": "info",
    "merge": "concat",
    "pack": "compress",
    "repair": "recover",
    "search": "grep",
    "stat": "info",
    "uncompress": "decompress",
    "unpack": "decompress",
    "verify": "test",
}


def load(name: str) -> Verb:
    verb: Verb = __import__(f"slipstick.cli.{name}", fromlist=["VERB"]).VERB
    return verb
