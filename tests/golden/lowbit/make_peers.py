"""Writes peers.json beside it, from the libraries themselves:  python tests/golden/lowbit/make_peers.py

Needs torch, microxcaling and qtorch; see tests/python/lowbit_peer_cases.py.
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
    asked = {name: inputs(name, most=840 if name in BLOCKS else 160) for _, name, _ in CASES}
    record = {
        "inputs": {name: words(x) for name, x in asked.items()},
        "answers": [[profile, name, mode, words(answer(profile, name, mode, asked[name]))] for profile, name, mode in CASES],
    }
    path = pathlib.Path(__file__).resolve().parent / "peers.json"
    path.write_text(json.dumps(record, indent=0) + "\n", "ascii")
