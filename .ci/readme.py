"""readme.py install|test: prints a command of README.md, so that the stages run what users read and the two cannot drift.

The two commands are the first and the second block of the language sh under the heading "Two commands".
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import NamedTuple

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
COMMANDS = ("install", "test")


class Block(NamedTuple):
    """A fenced block of code: the heading it stands under, its language, its text."""

    heading: str
    language: str
    text: str


def blocks(markdown: str) -> list[Block]:
    found = []
    heading = ""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]*)$", markdown, re.MULTILINE | re.DOTALL):
        if match[3] is not None:
            heading = match[3]
        else:
            found.append(Block(heading, match[1], match[2]))
    return found


def command(name: str) -> str:
    commands = [block.text.strip() for block in blocks(README.read_text("utf-8")) if block[:2] == ("Two commands", "sh")]
    if len(commands) != len(COMMANDS):
        raise SystemExit(f"README.md: 'Two commands' has {len(commands)} blocks of sh; expected {len(COMMANDS)}")
    return commands[COMMANDS.index(name)]


if __name__ == "__main__":
    print(command(sys.argv[1]))
