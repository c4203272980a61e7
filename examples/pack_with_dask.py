"""Packs the files of a folder on the workers of a Dask cluster, and joins the archives to one that `slipstick` reads like any other.

    pip install slipstick dask
    python examples/pack_with_dask.py FOLDER OUT.slip                               workers are processes of this machine
    python examples/pack_with_dask.py FOLDER OUT.slip --cluster tcp://HOST:8786     needs dask.distributed, and a folder that all machines see

An archive is independent blocks, so workers pack without knowing of each other and the join only copies bytes. The result holds the files in
the order of their names and is the same for any number of workers.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

from dask.base import compute
from dask.delayed import delayed

from slipstick import cli, logs


def pack(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Runs on a worker: one file, in bounded memory."""
    with source.open("rb") as raw, logs.open(target, "wb", threads=1) as packed:
        while piece := raw.read(1 << 22):
            packed.write(piece)
    return target


def pack_folder(folder: pathlib.Path, out: pathlib.Path, **options: object) -> int:
    """Packs the files of `folder` into `out`, which must not exist; `options` go to dask.compute. Returns the exit status."""
    folder, out = folder.resolve(), out.resolve()  # workers may run in another folder
    if out.exists():  # said before the work, not after it
        print(f"{out} exists; expected a new file", file=sys.stderr)
        return 2
    sources = sorted(path for path in folder.iterdir() if path.is_file())
    with tempfile.TemporaryDirectory(prefix=".slipstick-", dir=out.parent) as scratch:  # on a file system that the workers see
        targets = [pathlib.Path(scratch, f"{number}.slip") for number in range(len(sources))]
        tasks = [delayed(pack)(source, target) for source, target in zip(sources, targets)]
        parts = compute(*tasks, **options)
        return cli.main(["concat", "-o", str(out), *map(str, parts)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--cluster", help="address of a scheduler of dask.distributed")
    arguments = parser.parse_args()
    if arguments.cluster is None:
        return pack_folder(arguments.folder, arguments.out, scheduler="processes")
    from dask.distributed import Client

    with Client(arguments.cluster):
        return pack_folder(arguments.folder, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
