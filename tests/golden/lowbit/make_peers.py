"""Writes peers.json beside it, from the libraries themselves:  python tests/golden/lowbit/make_peers.py [library ...]

Asks the libraries named, all of them if none is, and keeps the answers of the others. Needs torch and the libraries; see tests/python/lowbit_peer_cases.py.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))

from lowbit_peer_cases import BLOCKS, CASES, answer, inputs


def words(x: np.ndarray) -> str:
    return x.ravel().astype(">f4").tobytes().hex()


if __name__ == "__main__":
    path = pathlib.Path(__file__).resolve().parent / "peers.json"
    record = json.loads(path.read_text("ascii"))
    libraries = sys.argv[1:] or list(dict.fromkeys(profile for profile, _, _ in CASES))
    cases = [case for case in CASES if case[0] in libraries]
    asked = {name: inputs(name, most=840 if name in BLOCKS else 160) for _, name, _ in cases}
    for name, x in asked.items():
        assert record["inputs"].setdefault(name, words(x)) == words(x), f"{name}: its inputs are others now; ask every library again"
    kept = [one for one in record["answers"] if one[0] not in libraries]
    record["answers"] = kept + [[*case, words(answer(*case, asked[case[1]]))] for case in cases]
    path.write_text(json.dumps(record, indent=0) + "\n", "ascii")
