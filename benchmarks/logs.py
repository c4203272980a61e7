"""How small, how fast, in how much memory: slipstick against general packers, on any logs.

    python benchmarks/logs.py                                the logs of made_logs.py
    python benchmarks/logs.py FILE FOLDER... --markdown      these; what gzip, xz, zstd or bzip2 packed is unpacked first

Every packer does the same work: it packs a file into a file through its Python file object, a megabyte at a time, on one thread, in a
process of its own, and unpacks it again. Only the packer's own calls are timed, in CPU seconds. Before a figure is printed the unpacked
bytes were compared with the log by SHA-256, in every sample. Samples of all packers are interleaved, so that a busy spell hits all.
A packer is sampled --runs times, fewer where that would take more than SLOW_SECONDS of CPU; the table says how often.

    python benchmarks/logs.py --ablate FILE...               what each technique of `max` and `default` is worth on each log

Packs the first --ablate-bytes of each log as one block without one technique at a time, really switched off in the coder, and says by how many
percent the block grows. What is worth little alone may stand in for another. Sources are of candidates alone: the contexts that judge a
candidate still know the values to the left and the past.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import importlib.util
import lzma
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import harness
import made_logs

CHUNK_BYTES = 1 << 20
SLOW_SECONDS = 30.0
MADE_BYTES = 4 << 20
ABLATE_BYTES = 2 << 20
LEVELS = "fast,default,max"
PEERS = "zstd -3,zstd -19,xz -9e"


class Packer(NamedTuple):
    """A way to pack: opens a file of its format for writing or reading. module: what must be importable for it."""

    open: Callable[[str, str], Any]
    module: str = ""


def open_slipstick(level: str) -> Callable[[str, str], Any]:
    def open_file(path: str, mode: str) -> Any:
        from slipstick import logs

        return logs.open(path, mode, threads=1, **({"level": level} if mode == "wb" else {}))

    return open_file


def open_zstd(level: int) -> Callable[[str, str], Any]:
    def open_file(path: str, mode: str) -> Any:
        import zstandard

        return zstandard.open(path, mode, cctx=zstandard.ZstdCompressor(level=level, write_checksum=True))

    return open_file


def open_xz(path: str, mode: str) -> Any:
    return lzma.open(path, mode, preset=9 | lzma.PRESET_EXTREME) if mode == "wb" else lzma.open(path, mode)


class BrotliFile:
    """brotli has no file object; this is the least that the tasks below need."""

    def __init__(self, path: str, mode: str) -> None:
        import brotli

        self._file: BinaryIO = open(path, mode)  # type: ignore[assignment]
        self._packer = brotli.Compressor(quality=11, lgwin=24) if mode == "wb" else None
        self._unpacker = brotli.Decompressor()

    def write(self, data: bytes) -> None:
        self._file.write(self._packer.process(data))

    def read(self, size: int) -> bytes:
        while packed := self._file.read(size // 16):
            if data := self._unpacker.process(packed):
                return data
        return b""

    def close(self) -> None:
        if self._packer:
            self._file.write(self._packer.finish())
        self._file.close()


PACKERS = {
    "zstd -3": Packer(open_zstd(3), "zstandard"),
    "zstd -19": Packer(open_zstd(19), "zstandard"),
    "xz -9e": Packer(open_xz),
    "gzip -9": Packer(lambda path, mode: gzip.open(path, mode, **({"compresslevel": 9} if mode == "wb" else {}))),
    "bzip2 -9": Packer(lambda path, mode: bz2.open(path, mode, **({"compresslevel": 9} if mode == "wb" else {}))),
    "brotli -11": Packer(BrotliFile, "brotli"),
}
PROGRAMS = {  # packs and unpacks by itself: no file object, and its CPU time includes its start
    "zpaq -m5": ("zpaq", ["add", "{archive}", "{raw}", "-m5", "-t1"], ["extract", "{archive}", "{raw}", "-to", "{unpacked}", "-t1"]),
}


def packer_named(name: str) -> Packer:
    return Packer(open_slipstick(name.split()[1])) if name.startswith("slipstick ") else PACKERS[name]


def missing(name: str) -> str:
    """Why a packer cannot run here, or ""."""
    if name in PROGRAMS:
        return "" if shutil.which(PROGRAMS[name][0]) else f"no program {PROGRAMS[name][0]}"
    if name in PACKERS and PACKERS[name].module and not importlib.util.find_spec(PACKERS[name].module):
        return f"no Python module {PACKERS[name].module}"
    return ""


# The child: one direction of one packer on one file


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    clock = harness.Clock()
    if task["packer"] in PROGRAMS:
        return {"sha256": _run_program(task, clock), "cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds}
    packer = packer_named(task["packer"])
    _warm_up(packer, task["archive"] + ".warm")
    digest = _pack(packer, task, clock) if task["direction"] == "in" else _unpack(packer, task, clock)
    return {"sha256": digest, "cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds}


def _warm_up(packer: Packer, path: str) -> None:
    """Imports, and nothing else that a later call would have to do."""
    file = packer.open(path, "wb")
    file.write(b"warm\n")
    file.close()
    file = packer.open(path, "rb")
    file.read(100)
    file.close()
    os.unlink(path)


def _pack(packer: Packer, task: dict[str, Any], clock: harness.Clock) -> str:
    with open(task["raw"], "rb") as raw:
        with clock:
            file = packer.open(task["archive"], "wb")
        while chunk := raw.read(CHUNK_BYTES):
            with clock:
                file.write(chunk)
        with clock:
            file.close()
    return ""


def _unpack(packer: Packer, task: dict[str, Any], clock: harness.Clock) -> str:
    digest = hashlib.sha256()
    with clock:
        file = packer.open(task["archive"], "rb")
    while True:
        with clock:
            chunk = file.read(CHUNK_BYTES)
        if not chunk:
            break
        digest.update(chunk)
    with clock:
        file.close()
    return digest.hexdigest()


def _run_program(task: dict[str, Any], clock: harness.Clock) -> str:
    program, pack, unpack = PROGRAMS[task["packer"]]
    packing = task["direction"] == "in"
    unpacked = task["raw"] + ".unpacked"
    target = task["archive"] if packing else unpacked
    if os.path.exists(target):
        os.unlink(target)
    words = [word.format(archive=task["archive"], raw=task["raw"], unpacked=unpacked) for word in (pack if packing else unpack)]
    with clock:
        subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "" if packing else hash_file(target)


# Inputs


class Log(NamedTuple):
    name: str
    path: str
    raw_bytes: int
    lines: int
    sha256: str


def hash_file(path: str) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()
        )


def open_unpacked(path: pathlib.Path) -> tuple[str, Any]:
    """A name without the suffix of a packer, and a file object that gives the log itself."""
    if path.suffix == ".zst":
        import zstandard

        return path.stem, zstandard.open(path, "rb")
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    return (path.stem, openers[path.suffix](path, "rb")) if path.suffix in openers else (path.name, open(path, "rb"))


def listed(paths: Sequence[str]) -> Iterator[pathlib.Path]:
    """Files as named; of a folder its regular files, but no hidden ones, no texts about logs and no archives of ours."""
    for path in map(pathlib.Path, paths):
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.iterdir()):
            if file.is_file() and not file.name.startswith(".") and file.suffix not in (".md", ".slip"):
                yield file


def prepare(paths: Sequence[str], made_bytes: int, scratch: str) -> list[Log]:
    """Plain copies of the logs in the scratch folder."""
    found = []

    def add(name: str, chunks: Iterator[bytes]) -> None:
        digest, size, lines = hashlib.sha256(), 0, 0
        target = os.path.join(scratch, f"{len(found)}.log")
        with open(target, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
        found.append(Log(name, target, size, lines, digest.hexdigest()))

    for path in listed(paths):
        name, source = open_unpacked(path)
        with source:
            add(name, iter(lambda source=source: source.read(CHUNK_BYTES), b""))
    if not paths:
        for kind in made_logs.KINDS:
            add(kind, iter([made_logs.make(kind, made_bytes)]))
    return found


# Measuring


class Row(NamedTuple):
    """What one packer did to one log."""

    log: Log
    packer: str
    packed_bytes: int
    pack: harness.Samples
    unpack: harness.Samples
    pack_peak_bytes: int
    unpack_peak_bytes: int

    @property
    def ratio(self) -> float:
        return self.log.raw_bytes / max(1, self.packed_bytes)

    def rate(self, samples: harness.Samples) -> float:
        return self.log.raw_bytes / harness.MEGABYTE / max(samples.median, 1e-9)


def measure(log: Log, packers: Sequence[str], runs: int, scratch: str) -> list[Row]:
    """Rounds over all packers: pack, unpack, compare; a packer drops out when it has its runs or has taken its time."""
    pack = {name: harness.Samples() for name in packers}
    unpack = {name: harness.Samples() for name in packers}
    sizes: dict[str, int] = {}
    peaks = {name: [0, 0] for name in packers}
    for round_number in range(runs):
        for name in packers:
            if round_number and sum(pack[name].cpu_seconds + unpack[name].cpu_seconds) > SLOW_SECONDS:
                continue
            archive = os.path.join(scratch, "archive." + name.replace(" ", ""))
            if os.path.exists(archive):
                os.unlink(archive)
            answers = []
            for direction in ("in", "out"):
                task = {"packer": name, "direction": direction, "raw": log.path, "archive": archive}
                answers.append(harness.measure_in_child(__file__, task))
            if answers[1]["sha256"] != log.sha256:
                raise SystemExit(f"{name}: {log.name} did not come back: SHA-256 is {answers[1]['sha256']}; expected {log.sha256}")
            if sizes.setdefault(name, os.path.getsize(archive)) != os.path.getsize(archive):
                raise SystemExit(f"{name}: {log.name} is packed into {os.path.getsize(archive)} bytes; {sizes[name]} before")
            for samples, answer in zip((pack[name], unpack[name]), answers, strict=True):
                samples.add(answer)
            peaks[name] = [max(old, answer["peak_bytes"]) for old, answer in zip(peaks[name], answers, strict=True)]
    return [Row(log, name, sizes[name], pack[name], unpack[name], *peaks[name]) for name in packers]


# What each technique is worth


def ablate(logs: Sequence[Log], levels: Sequence[str], most_bytes: int) -> str:
    """For each level a table: a technique a row, and how much larger the beginning of each log becomes without it."""
    import slipstick.logs  # gives the core its zstd  # noqa: F401
    from slipstick._core import logs as core

    beginnings = []
    for log in logs:
        with open(log.path, "rb") as file:
            raw = file.read(most_bytes)
        beginnings.append(raw[: raw.rfind(b"\n") + 1] or raw)
    tables = []
    for level in levels:
        techniques = core.technique_names(level)
        if not techniques:
            continue
        full = [core.size_without(raw, level, []) for raw in beginnings]
        rows = [["packed bytes", *map(str, full)]]
        for technique in techniques:
            sizes = [core.size_without(raw, level, [technique]) for raw in beginnings]
            rows.append([f"without {technique}", *(f"{(size / whole - 1) * 100:+.1f}" for size, whole in zip(sizes, full, strict=True))])
        tables.append(harness.markdown_table([f"{level}: % larger", *(log.name for log in logs)], rows))
    return "\n\n".join(tables)


# Showing


def mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.0f}"


def detailed_table(rows: Sequence[Row]) -> str:
    head = ["log", "packer", "bytes", "ratio", "MB/s in", "MB/s out", "MiB in", "MiB out", "runs", "spread"]
    cells = []
    for row in rows:
        spread = max(row.pack.spread, row.unpack.spread)
        cells.append(
            [row.log.name, row.packer, str(row.packed_bytes), f"{row.ratio:.2f}"]
            + [harness.significant(row.rate(samples)) for samples in (row.pack, row.unpack)]
            + [mebibytes(row.pack_peak_bytes), mebibytes(row.unpack_peak_bytes)]
            + [str(len(row.pack.cpu_seconds)), f"{spread:.0%}" if len(row.pack.cpu_seconds) > 1 else "-"]
        )
    return harness.text_table(head, cells)


def markdown_tables(rows: Sequence[Row], packers: Sequence[str]) -> str:
    """Two tables for a README: the ratio of each log, and speed and memory over all of them."""
    logs = list(dict.fromkeys(row.log for row in rows))
    by_case = {(row.log, row.packer): row for row in rows}
    ratio_rows = []
    for log in logs:
        best = min(by_case[log, name].packed_bytes for name in packers)
        cells = [
            harness.bold(f"{row.ratio:.1f}") if row.packed_bytes == best else f"{row.ratio:.1f}"
            for row in (by_case[log, name] for name in packers)
        ]
        ratio_rows.append([log.name, harness.significant(log.raw_bytes / harness.MEGABYTE), *cells])
    speed_rows = []
    for name in packers:
        own = [row for row in rows if row.packer == name]
        raw = sum(row.log.raw_bytes for row in own) / harness.MEGABYTE
        counts = sorted({len(row.pack.cpu_seconds) for row in own})
        speed_rows.append(
            [name]
            + [harness.significant(raw / sum(getattr(row, which).median for row in own)) for which in ("pack", "unpack")]
            + [mebibytes(max(getattr(row, which + "_peak_bytes") for row in own)) for which in ("pack", "unpack")]
            + ["-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))]
        )
    ratios = harness.markdown_table(["ratio of", "raw MB", *packers], ratio_rows)
    speeds = harness.markdown_table(["all of these logs", "MB/s in", "MB/s out", "MiB in", "MiB out", "runs"], speed_rows)
    return f"{ratios}\n\n{speeds}"


def mean_ratios(rows: Sequence[Row], packers: Sequence[str]) -> str:
    """Geometric means over the logs, each counting the same."""
    means = {
        name: math.exp(sum(math.log(row.ratio) for row in rows if row.packer == name) / (len(rows) // len(packers))) for name in packers
    }
    return "geometric mean of the ratios: " + ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())


def versions() -> dict[str, str]:
    import zlib

    found = harness.package_versions(["slipstick", "zstandard", "brotli"])
    if "zstandard" in found:
        import zstandard

        found["libzstd"] = ".".join(map(str, zstandard.ZSTD_VERSION))
    return {**found, "zlib": zlib.ZLIB_RUNTIME_VERSION}


def record(rows: Sequence[Row], warnings: Sequence[str]) -> dict[str, Any]:
    import slipstick

    return {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": harness.commit(),
        "machine": harness.machine(),
        "versions": versions(),
        "isa": slipstick.isa(),
        "warnings": list(warnings),
        "logs": [{key: value for key, value in log._asdict().items() if key != "path"} for log in dict.fromkeys(row.log for row in rows)],
        "rows": [
            {
                "log": row.log.name,
                "packer": row.packer,
                "packed_bytes": row.packed_bytes,
                "ratio": row.ratio,
                "in_mb_per_cpu_second": row.rate(row.pack),
                "out_mb_per_cpu_second": row.rate(row.unpack),
                "in_peak_bytes": row.pack_peak_bytes,
                "out_peak_bytes": row.unpack_peak_bytes,
                "in_samples": vars(row.pack),
                "out_samples": vars(row.unpack),
            }
            for row in rows
        ],
    }


def names_in(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="FILE", help="logs, or folders of logs; without them logs are made")
    parser.add_argument("--levels", default=LEVELS, help=f"levels of slipstick, or none (default: {LEVELS})")
    parser.add_argument("--peers", default=PEERS, help=f"others, of {', '.join([*PACKERS, *PROGRAMS])}, all or none (default: {PEERS})")
    parser.add_argument("--runs", type=int, default=3, help="samples of each packer on each log (default: 3)")
    parser.add_argument("--made-bytes", type=int, default=MADE_BYTES, help=f"size of each made log (default: {MADE_BYTES})")
    parser.add_argument("--ablate", action="store_true", help="what each technique of max and default is worth, instead of the peers")
    parser.add_argument("--ablate-bytes", type=int, default=ABLATE_BYTES, help=f"of each log, for --ablate (default: {ABLATE_BYTES})")
    parser.add_argument("--markdown", action="store_true", help="two short tables for a README")
    parser.add_argument("--json", metavar="OUT", help="also write every sample, the machine and the versions there")
    arguments = parser.parse_args()
    if not 0 < arguments.ablate_bytes <= 32 << 20:
        parser.error(f"--ablate-bytes is {arguments.ablate_bytes}; expected 1 to {32 << 20}, the size of a block")
    if arguments.runs < 1:
        parser.error(f"--runs is {arguments.runs}; expected 1 or more")
    if arguments.peers == "all":
        arguments.peers = ",".join([*PACKERS, *PROGRAMS])
    for name in names_in(arguments.peers):
        if name not in PACKERS and name not in PROGRAMS:
            parser.error(f"--peers has {name!r}; expected some of {', '.join([*PACKERS, *PROGRAMS])}")
    return arguments


def main() -> None:
    harness.serve_child_task(run_task)
    arguments = parse_arguments()
    asked = [f"slipstick {level}" for level in names_in(arguments.levels)] + names_in(arguments.peers)
    packers = [name for name in asked if not missing(name)]
    warnings = [f"{name} is left out: {missing(name)}" for name in asked if missing(name)] + harness.load_warnings()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-logs-") as scratch:
        logs = prepare(arguments.paths, arguments.made_bytes, scratch)
        if arguments.ablate:
            print(ablate(logs, names_in(arguments.levels), arguments.ablate_bytes))
            return
        for log in logs:
            if sys.stderr.isatty():
                print(f"\r\033[K{log.name}", end="", file=sys.stderr, flush=True)
            rows += measure(log, packers, arguments.runs, scratch)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if not rows:
        raise SystemExit("nothing to measure: no logs or no packers")
    directions = (("in", lambda row: row.pack), ("out", lambda row: row.unpack))
    warnings += harness.sample_warnings({f"{row.packer} on {row.log.name}, {name}": of(row) for row in rows for name, of in directions})
    print(markdown_tables(rows, packers) if arguments.markdown else detailed_table(rows))
    print()
    if not arguments.markdown:
        print(mean_ratios(rows, packers))
    machine = harness.machine()
    print(
        f"{machine['processor']}, {machine['usable_processors']} processors, {machine['system']}; Python {platform.python_version()}, ",
        end="",
    )
    print(", ".join(f"{name} {version}" for name, version in versions().items()) + f"; commit {harness.commit()[:12] or 'unknown'}")
    print("MB/s: 10^6 raw bytes per CPU second, one thread, median; MiB: peak of the process. Every sample came back with its SHA-256.")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        harness.write_json(arguments.json, record(rows, warnings))


if __name__ == "__main__":
    main()
