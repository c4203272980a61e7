# Contract: `slipstick grep` prints the same bytes, in the same order, with the same exit status, as `LC_ALL=C grep -a` on the raw file.
# The oracle is GNU grep itself. Archives have the names of their raw files, in another folder, so that printed names agree too.
from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from test_logs_roundtrip import contents, development_logs

from slipstick import logs

cli = importlib.import_module("slipstick.cli")
core = importlib.import_module("slipstick._core").logs


SEED = 20261125

pytestmark = pytest.mark.skipif(
    shutil.which("grep") is None or b"GNU grep" not in subprocess.run(["grep", "--version"], capture_output=True).stdout,
    reason="no GNU grep",
)

LOG = b"".join(
    b"May %2d 12:%02d:%02d host%d sshd[%d]: %s for user_%s from 10.0.%d.%d port %d ssh2\n"
    % (i // 300 + 1, i // 60 % 60, i % 60, i % 3, 1000 + i // 4, (b"Failed password", b"Accepted publickey", b"Invalid user")[i % 7 % 3],
       bytes([97 + i % 26, 97 + i * 7 % 26]), i % 5, i * 31 % 256, i * 7919 % 65536)
    for i in range(3000)
)  # fmt: skip

TEXTS = {
    "app": LOG,
    "empty": b"",
    "feeds": b"\n\n\n",
    "odd": b"a\n\nfoo bar\nfoo_bar foo-bar\nFOO aaa\nbar\rfoo\r\n\0foo\0\n caf\xc3\xa9 \xff\xfe\n{a} a{1} a+b (x) *y ^z$ \\w [q]\n\naab aaab ab b\n"
    b"{3,1}\nx{3,1}b {3,1}}\nfoofoo foo\nThe end has no feed",
    "unfinished": b"no line feed here",
}

# Option words and pattern; each is tried on every text.
CASES = [
    ((), pattern)
    for pattern in (
        "", "foo", "Failed", "port 2[0-9]*", "^", "$", "^$", ".", "^.$", "a*", "aa*b", "a\\{2\\}", "a\\{2,\\}b", "a\\{,2\\}b", "\\(foo\\)*", "foo\\|end",
        "\\(a\\|b\\)\\{3\\}", "\\bfoo\\b", "\\<foo", "foo\\>", "\\Bfoo", "foo\\B", "\\w\\+_\\w\\+", "\\W\\W", "\\s\\S", "[[:upper:]]\\{3\\}", "[^a-z ]", "[]q]",
        "[^]q]", "[a-]", "[[.a.]b]", "[[=a=]]", "*y", "^*y", "\\(*y\\)", "\\^z\\$", "a^z", "^z$", "z$", "\\[q\\]", "\\.", "a\\+b", "a\\?b", "x\\?", "\\+b", "\\?",
        "{a}", "a{1}", "\\`a", "d\\'", "foo$", "ssh2$", "^May  1", "user_a[b-f] from 10\\.0\\.1\\.", "no such thing", "foo\nend", "\n", "[[:space:]]", "\\(^a\\)", "a\\($\\)",
        "\\/", "\\-", "(x)", "caf.", "caf..", "\\(\\)", "\\(\\(a\\)\\)b", "b*$", "^b*", "[0-9]\\{1,3\\}\\.[0-9]\\{1,3\\}", "f\\(o\\)\\{2\\}", "o\\{0\\}f", "[\\w]", "[a\\]]",
    )
] + [
    (("-E",), pattern)
    for pattern in (
        "foo|bar", "(foo|bar)+", "a{2}", "a{2,3}b", "a{,2}b", "a{1", "a{x", "{a}", "{1}", "*a", "(*a)", "+b", "a||b", "()", "(|a)b", "^*a", "a+?", "a**", "(a*)*b", "(^|_)bar",
        "foo($|-)", "[a-z]+_[a-z]+", "\\(x\\)", "\\{a\\}", "a\\+b", "\\*y", ")", "x)", "x|", "|x", "a{0}b", "(ab?){2,}", "port (1|2)[0-9]{3} ", "\\bfoo|end\\b", "^(foo|The)", "\\w+$", "a.{3,5}b",
        "a{1}{2}", "^+a", "a|*b", "(a|b)*c|d", "(foo){2}", "[0-9]+\\.[0-9]+", "$a", "a^", "(a{1,2}){2}", "\\W+", ".+", ".*foo.*bar.*",
        "{3,1}", "a|{3,1}", "({3,1})", "^{3,1}", "*{3,1}", "{3,1}b", "{3,1}{2}",
    )
] + [(("-F",), pattern) for pattern in ("foo", "a.b", "a+b", "[q]", "", "foo\nbar", "Failed password for", "\\w", "^z$", "a\n\nb", ".")] + [
    (("-i",), pattern) for pattern in ("FOO", "failed PASSWORD", "[[:upper:]]oo", "[F-G]oo", "\\<the", "[^f]oo", "Caf")
] + [(("-i", "-F"), "Foo\nTHE")]  # fmt: skip

# Operators behind what has no width: at the start of a basic pattern plain characters, elsewhere repeats of an assertion.
BEHIND_ASSERTIONS = [
    (syntax, form.replace("%", assertion + operator))
    for syntax, operators in (("-G", ("*", "\\+", "\\?", "\\{2\\}", "\\{0\\}", "**", "\\{0,1\\}")), ("-E", ("*", "+", "?", "{2}", "{0}", "*+", "{2}*", "*{2}")))
    for assertion in ("\\b", "\\B", "\\<", "\\>", "\\`", "\\'", "^", "$")
    for operator in operators
    for form in ("%", "%foo", "foo%bar", "a|%b", "(%)", "(%b)", "\\(%b\\)", "(%|z)", "x% b")
]  # fmt: skip

# GNU grep 3.8 selects lines by these patterns as it says and then prints other parts of them.
GNU_SLIPS = [
    (("-E",), pattern) for pattern in ("{a}", "{1}", "^*a", "^+a", "{3,1}", "a|{3,1}", "({3,1})", "^{3,1}", "*{3,1}", "{3,1}b", "{3,1}{2}")
]

OPTIONS = [
    (), ("-n",), ("-c",), ("-v",), ("-o",), ("-on",), ("-vc",), ("-vn",), ("-q",), ("-l",), ("-H",), ("-Hn",), ("-A", "1"), ("-B2",), ("-C", "1", "-n"), ("-nA0",),
    ("-oC1",), ("-Hc",), ("-vB", "1"), ("-Ho",), ("-ocv",), ("-A2", "-B1", "-H"), ("-lv",), ("-vo",), ("-vonA1",), ("-voHC2",), ("-vonB1", "-i"), ("-n", "-j", "2"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grep")
    (folder / "raw").mkdir()
    (folder / "packed").mkdir()
    for number, (name, raw) in enumerate(TEXTS.items()):
        (folder / "raw" / name).write_bytes(raw)
        (folder / "packed" / name).write_bytes(logs.compress(raw, level=logs.LEVELS[number % 2]))
    return folder


@pytest.fixture
def agree(folder, capfdbinary, monkeypatch):
    """Runs both programs with the same words and compares what they print and return."""

    def check(words, *names, where=folder):
        command = ["grep", "-a", *(word for word in words if word not in ("-j", "2") or "-j" not in words), *names]
        wanted = subprocess.run(command, cwd=where / "raw", env={**os.environ, "LC_ALL": "C"}, capture_output=True)
        monkeypatch.chdir(where / "packed")
        capfdbinary.readouterr()
        status = cli.main(["grep", *words, *names])
        got = capfdbinary.readouterr()
        assert (status, got.out) == (wanted.returncode, wanted.stdout), (words, names, got.err, wanted.stderr)
        assert bool(got.err) == (b"grep: " in wanted.stderr.replace(b"grep: warning", b"")), (words, names, got.err)
        return wanted

    return check


def test_every_pattern_selects_the_lines_that_grep_selects(agree):
    selected = 0
    for options, pattern in CASES:
        selected += agree([*options, "-n", "--", pattern], *TEXTS).returncode == 0
    assert selected > len(CASES) // 2


def test_operators_behind_assertions_are_read_as_grep_reads_them(folder):
    made = random.Random(SEED)
    refused = 0
    with logs.Archive(folder / "packed" / "odd") as archive:
        for option, pattern in made.sample(BEHIND_ASSERTIONS, 300):
            command = ["grep", "-a", option, "-n", "-e", pattern, folder / "raw" / "odd"]
            wanted = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True)
            try:
                lines = archive.grep(pattern, syntax="extended" if option == "-E" else "basic")
                got = b"".join(b"%d:%s\n" % (number + 1, line.removesuffix(b"\n")) for number, line in lines)
            except ValueError:
                refused += 1
                assert wanted.returncode == 2, (option, pattern)
            else:
                assert (wanted.returncode < 2, got) == (True, wanted.stdout), (option, pattern)
    assert refused > 5


def test_matches_are_leftmost_and_longest(agree):
    for options, pattern in CASES:
        if (options, pattern) not in GNU_SLIPS:
            agree([*options, "-on", "--", pattern], "odd")


def test_every_option_prints_what_grep_prints(agree):
    for options in OPTIONS:
        for pattern in ("foo", "^$", "e", "host1 .*a[c-f]", "nothing at all", ""):
            agree([*options, "--", pattern], "odd", "app", "empty", "unfinished")
            agree([*options, "-h", "--", pattern], "feeds", "odd")
        agree([*options, "o"], "odd")


@pytest.mark.parametrize(
    "pattern", ["[a", "\\(", "\\)", "a\\{1", "a\\{2,1\\}", "[[:foo:]]", "[:alpha:]", "[z-a]", "a\\", "a\\{99999\\}", "[[.ab.]]"]
)
def test_what_grep_refuses_is_refused(agree, pattern):
    assert agree(["--", pattern], "app").returncode == 2


@pytest.mark.parametrize(("words", "message"), [
    (["\\(a\\)\\1", "app"], "pattern: has the back-reference \\1, which is not supported"),
    (["\\d", "app"], "pattern: has \\d, which grep takes for d; expected a bracket such as [0-9], or d"),
    (["-E", "((a{1000}){1000}){1000}", "app"], "pattern: is too large"),
    (["-EF", "a", "app"], "grep: -E and -F exclude each other; see slipstick grep --help"),
    (["-A", "x", "a", "app"], "grep: -A/--after-context: 'x' is not a number of lines; expected 0 or more; see slipstick grep --help"),
    ([], "grep: no PATTERN given; see slipstick grep --help"),
    (["a", "missing"], "missing: No such file or directory"),
])  # fmt: skip
def test_what_is_refused_is_told_in_one_line(words, message, folder, capfd, monkeypatch):
    monkeypatch.chdir(folder / "packed")
    assert cli.main(["grep", *words]) == 2
    assert capfd.readouterr() == ("", f"slipstick: {message}\n")


def test_a_limit_on_memory_is_that_of_unpacking(folder, capfd, monkeypatch):
    monkeypatch.chdir(folder / "packed")
    archive = Path("app").read_bytes()
    needed = 2 * (len(LOG) + len(archive) - 10 - int.from_bytes(archive[-12:-4], "little"))  # one block between header and footer
    for command in (["grep", "sshd"], ["test"], ["cat", "--lines", "1:2"]):
        assert cli.main([*command, "--max-memory", str(needed), "app"]) == 0
        capfd.readouterr()
        assert cli.main([*command, "--max-memory", str(needed - 1), "app"]) == 2
        out, error = capfd.readouterr()
        assert out == "" and f"a block needs {needed} bytes of memory; expected at most {needed - 1}\n" in error


def test_errors_and_matches_together_give_the_status_of_grep(agree):
    for options in ([], ["-q"], ["-c"], ["-l"]):
        agree([*options, "foo"], "missing", "odd")
        agree([*options, "foo"], "odd", "missing")
        agree([*options, "nowhere"], "missing", "odd")


def test_standard_input_is_an_archive_too(folder):
    import sys

    command = [sys.executable, "-m", "slipstick.cli", "grep", "-Hn", "foo_", "-"]
    result = subprocess.run(command, input=(folder / "packed" / "odd").read_bytes(), capture_output=True)
    assert (result.returncode, result.stdout) == (0, b"(standard input):4:foo_bar foo-bar\n")


# Context and lines across blocks: archives that follow each other stand for small blocks.


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """One text in archives of random sizes, whose ends fall inside lines as often as not; every second time a block begins inside one."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "raw").mkdir()
    (folder / "packed").mkdir()
    made = random.Random(SEED)
    for number in range(12):
        lines = [b"%s %d\n" % (made.choice((b"alpha beta", b"gamma needle", b"delta", b"")), i) for i in range(60)]
        raw = b"".join(lines) + b"last"
        packed, at = b"", 0
        while at < len(raw):
            end = min(len(raw), at + made.randrange(1, 200))
            if number % 3:
                end = raw.find(b"\n", end - 1) + 1 or len(raw)
            packed += logs.compress(raw[at:end], level="fast")
            at = end
        (folder / "raw" / str(number)).write_bytes(raw)
        (folder / "packed" / str(number)).write_bytes(packed)
    return folder


def test_lines_and_context_do_not_see_where_blocks_end(agree, pieces):
    made = random.Random(SEED)
    for number in range(12):
        for _ in range(40):
            options = made.sample(["-n", "-v", "-o", "-c", "-i"], made.randrange(3))
            for letter in made.sample("ABC", made.randrange(3)):
                options.append(f"-{letter}{made.randrange(8)}")
            threads = str(made.randrange(1, 4))
            pattern = made.choice(("needle", "needle 3", "delta", "^ ", "beta.*9", "nothing", "[0-9]$", "last"))
            words = [*options, pattern]
            wanted = subprocess.run(
                ["grep", "-a", *words, str(number)], cwd=pieces / "raw", env={**os.environ, "LC_ALL": "C"}, capture_output=True
            )
            assert run_printed(pieces / "packed" / str(number), words, threads) == (wanted.returncode, wanted.stdout), (words, number)


def run_printed(path, words, threads):
    read, write = os.pipe()
    saved = os.dup(1)
    try:
        os.dup2(write, 1)
        os.close(write)
        status = cli.main(["grep", "-j", threads, *words, str(path)])
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    with open(read, "rb") as file:
        return status, file.read()


def test_more_lines_than_are_listed_at_a_time_are_all_found(agree, tmp_path):
    raw = (b"a\n" * 70_000 + b"b\n" + b"\n" * 70_000) * 2 + b"c"
    for place, data in (("raw", raw), ("packed", logs.compress(raw, level="fast"))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "log").write_bytes(data)
    for words in (
        ["a"],
        ["-v", "a"],
        ["-vn", "b"],
        ["-n", ""],
        ["-c", "-v", "c"],
        ["-nC2", "b"],
        ["-on", "a"],
        ["-vnB1", "-A1", "a\\|^$"],
        ["-vc", "x"],
    ):
        agree(words, "log", where=tmp_path)


# Passing over blocks


def test_blocks_that_cannot_match_are_not_decoded(tmp_path):
    archive = core.Archive(b"".join(logs.compress(LOG.replace(b"ssh2", word)) for word in (b"telnet", b"TELNET", b"rlogin", b"ssh2")))

    def decoded(pattern, **options):
        grep = core.Grep(archive, pattern, **options)
        selected = 0
        while (batch := grep.next()) is not None:
            selected += batch.selected
        return grep.blocks_decoded, selected

    assert decoded(b"telnet") == (2, 3000)
    assert decoded(b"telnet", ignore_case=True) == (2, 6000)
    assert decoded(b"rlogin\\|telnet$") == (3, 6000)
    assert decoded(b"port.*rlog", count_only=True) == (1, 3000)
    assert decoded(b"watermelon") == (0, 0)
    assert decoded(b"watermelon", invert=True, count_only=True) == (0, 12000)
    assert decoded(b"watermelon|telne[t]", syntax="extended") == (2, 3000)
    assert decoded(b"(watermelon)?", syntax="extended", count_only=True) == (4, 12000)
    assert decoded(b"(watermelon){0,1}x", syntax="extended", count_only=True)[0] == 4
    assert decoded(b"ssh2", count_only=True)[0] == 4  # three letters are no group


def test_blocks_that_are_passed_over_keep_no_thread_from_work():
    packed = {word: logs.compress(LOG.replace(b"ssh2", word)) for word in (b"telnet", b"rlogin")}
    archive = core.Archive(b"".join(packed[b"telnet" if i % 4 == 3 else b"rlogin"] for i in range(16)))
    for threads, wanted in ((1, [3000] * 4), (2, [6000] * 2), (3, [9000, 3000])):
        grep = core.Grep(archive, b"telnet", threads=threads)
        assert [batch.selected for batch in iter(grep.next, None)] == wanted
        assert grep.blocks_decoded == 4


# Long: hundreds of patterns made from the logs themselves


def made_patterns(raw, made, count):
    """Pieces of lines, and regular expressions made of them by replacing bytes with what matches them."""
    lines = raw.splitlines()
    special = set(b"\\.*[]^$+?(){}|")
    for _ in range(count):
        line = made.choice(lines)
        size = made.randrange(1, 24)
        at = made.randrange(max(1, len(line) - size))
        piece = line[at : at + size]
        if not piece or b"\0" in piece:
            continue
        kind = made.randrange(4)
        if kind == 0:
            yield ["-F", *(["-i"] if made.random() < 0.3 else [])], piece
            continue
        out = b""
        for byte in piece:
            here = bytes([byte])
            choice = made.randrange(12)
            if choice == 0:
                here = b"."
            elif choice == 1 and here.isdigit():
                here = b"[0-9]"
            elif choice == 2 and here.isalpha():
                here = made.choice((b"[[:alpha:]]", b"[a-z]", b"\\w"))
            elif choice == 3 and here.isalnum():
                here += b"+"
            elif choice == 4 and here.isalnum():
                here = b"(" + here + b"|x)"
            elif choice == 5 and here.isalnum():
                here += made.choice((b"*", b"?", b"{1,2}", b"{1}"))
            elif byte in special:
                here = b"\\" + here
            out += here
        if kind == 2:
            other = made.choice(lines)[: made.randrange(1, 12)]
            out += b"|" + b"".join(b"\\" + bytes([b]) if b in special else bytes([b]) for b in other if b)
        yield (
            ["-E", *(["-i"] if made.random() < 0.3 else [])],
            made.choice((b"", b"", b"^", b"\\b")) + out + made.choice((b"", b"", b"$", b".*")),
        )


@pytest.mark.skipif(not development_logs(), reason="no development logs: set SLIPSTICK_LOGS to a folder of .log or .log.xz files")
@pytest.mark.parametrize(("path", "count"), [
    pytest.param(path, count, marks=[pytest.mark.long] if count > 20 else [], id=f"{path.name}-{count}")
    for path in development_logs() for count in ([12] if path.stat().st_size < 300_000 and "_2k" not in path.name else []) + [300]
])  # fmt: skip
def test_development_logs_are_searched_as_grep_does(agree, tmp_path, path, count):
    raw = contents(path)
    if count < 20:
        raw = raw[: raw.find(b"\n", 200_000) + 1]
    made = random.Random(SEED)
    for place, data in (("raw", raw), ("packed", logs.compress(raw, level=made.choice(logs.LEVELS)))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "log").write_bytes(data)
    for options, pattern in made_patterns(raw, made, count if len(raw) < 10_000_000 else 60):
        words = [*options, *made.choice(((), ("-n",), ("-c",), ("-v", "-c"), ("-o",), ("-n", "-C1"), ("-l",)))]
        agree([*words, "--", os.fsdecode(pattern)], "log", where=Path(tmp_path))
