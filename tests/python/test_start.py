"""Contract: a command, and `import slipstick.logs`, import no more than what they use; the start of many a search is longer than the search.

A list of modules stands for time, which a test cannot hold anybody to. The lists are of what comes on top of a bare interpreter.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import slipstick
from slipstick import logs

CORE = {"slipstick", "slipstick._core", "slipstick._errors"}
LIBRARY = CORE | {"slipstick._arguments", "slipstick.logs", "slipstick.logs._arguments", "slipstick.logs._stream"}
COMMAND = CORE | {"slipstick.cli", "slipstick.cli._messages", "slipstick.cli._verbs"}
VERB = {f"slipstick.cli.{name}" for name in ("_files", "_options", "_parser")} | LIBRARY | COMMAND | {"slipstick.logs._foreign"}
READER = VERB | {"slipstick.cli._unpack"}
OF_THE_SYSTEM = {"__future__", "atexit", "itertools", "mmap", "time", "errno"}  # quick ones
WRITER = {"slipstick.cli._progress", "slipstick.cli._signals", "slipstick.logs._atomic"}
UNWINDING = "import contextlib, select, signal"  # what is unfinished is removed when a signal comes


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package and its extension side by side: an editable install has a finder, which imports much."""
    folder = tmp_path_factory.mktemp("installed")
    package = pathlib.Path(slipstick.__file__).parent
    (folder / "slipstick").mkdir()
    for file in {*package.iterdir(), pathlib.Path(slipstick._core.__file__)}:
        if file.suffix in (".py", ".so") or (file.is_dir() and any(file.glob("*.py"))):
            (folder / "slipstick" / file.name).symlink_to(file)
    return folder


@pytest.fixture
def imported(installed, folder):
    """Gives the modules that code imports, but for those that every interpreter has and the parts of the core."""
    import zstandard

    def run(code: str, *words: str) -> set[str]:
        paths = [str(installed), str(pathlib.Path(zstandard.__file__).parents[1])]
        program = (
            f"import os, sys\nsys.path += {paths}\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before), file=sys.stderr)"
        )
        command = [sys.executable, "-I", "-S", "-c", program, *words]
        result = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120)
        return {name for name in result.stderr.splitlines()[-1].split() if not name.startswith("slipstick._core.")}

    return run


@pytest.fixture
def folder(tmp_path):
    raw = b"".join(b"2024-05-01 12:00:%02d INFO job %d took %d ms\n" % (i % 60, i, i * i % 1009) for i in range(3000))
    (tmp_path / "app.log").write_bytes(raw)
    (tmp_path / "app.slip").write_bytes(logs.compress(raw))
    return tmp_path


@pytest.mark.parametrize(("words", "most"), [
    (["--version"], COMMAND),
    (["--help"], COMMAND | {"slipstick.cli._help", "slipstick.cli._parser"}),
    ([], COMMAND | {"slipstick.cli._help", "slipstick.cli._parser"}),
    (["grep", "--help"], READER | {"slipstick.cli.grep", "slipstick.cli._help"}),
    (["grep", "-c", "watermelon", "app.slip"], READER | {"slipstick.cli.grep"}),
    (["grep", "-n", "took", "app.slip"], READER | {"slipstick.cli.grep"}),
    (["grep", "-F", "-E", "took", "app.slip"], READER | {"slipstick.cli.grep"}),
    (["grep", "[", "app.slip"], READER | {"slipstick.cli.grep"}),
    (["cat", "app.slip"], READER | {"slipstick.cli.cat", "slipstick.cli._progress"}),
    (["test", "app.slip"], READER | {"slipstick.cli.test", "slipstick.cli._progress"}),
    (["templates", "app.slip"], READER | {"slipstick.cli.templates"}),
    (["info", "app.slip"], READER | {"slipstick.cli.info", "slipstick.logs._archive"}),
    (["decompress", "-o", "new", "app.slip"], READER | WRITER | {"slipstick.cli.decompress"}),
    (["compress", "app.log"], VERB | WRITER | {"slipstick.cli.compress"}),
])  # fmt: skip
def test_a_command_imports_only_what_it_uses(words, most, imported):
    modules = imported("from slipstick.cli import main\nmain()", *words)
    assert modules >= COMMAND
    if "zstandard" in modules:  # which imports what it likes
        modules = {name for name in modules if name.startswith("slipstick") and name != "slipstick.logs._codec"}
    allowed = most | OF_THE_SYSTEM | (imported(UNWINDING) if most >= WRITER else set())
    assert modules <= allowed


@pytest.mark.parametrize(("code", "most"), [
    ("import slipstick; slipstick.__version__, slipstick.CorruptArchiveError", CORE),
    ("import slipstick.logs; slipstick.logs.LEVELS, slipstick.logs.decompress", LIBRARY),
    ("from slipstick.logs import Archive", LIBRARY | {"slipstick.logs._archive"}),
])  # fmt: skip
def test_an_import_imports_no_more_than_it_says(code, most, imported):
    modules = imported(code)
    assert CORE <= modules and modules - OF_THE_SYSTEM <= most


def test_names_that_are_imported_late_are_there_all_the_same():
    assert {"Archive", "open", "compress"} <= set(dir(logs))
    namespace: dict[str, object] = {}
    exec("from slipstick.logs import *", namespace)
    assert namespace["Archive"] is logs.Archive and namespace["open"] is logs.open
    with pytest.raises(AttributeError, match=r"module 'slipstick\.logs' has no attribute 'nonsense'"):
        slipstick.logs.nonsense
