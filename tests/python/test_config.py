# Contract: config() tells the truth about version, levels, threads and CUDA; importing slipstick is cheap and imports no heavy package; errors of
# the core arrive as the documented Python classes, which pickle.
import importlib.metadata
import importlib.util
import os
import pathlib
import pickle
import re
import subprocess
import sys
import types

import pytest

import slipstick
from slipstick import _extension


def run_python(code, **environment):
    """Runs code in a fresh interpreter; returns the completed process with text output."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_version_is_that_of_the_installed_package():
    assert slipstick.__version__ == importlib.metadata.version("slipstick")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", slipstick.__version__)


def test_config_has_exactly_the_documented_keys_and_types():
    config = slipstick.config()
    assert {key: type(value) for key, value in config.items()} == {
        "version": str,
        "isa_levels": list,
        "isa": str,
        "threads": int,
        "cuda": bool,
    }
    assert config["version"] == slipstick.__version__
    assert config["isa"] == slipstick.isa() and config["isa"] in config["isa_levels"]
    assert config["threads"] == slipstick.num_threads() >= 1
    assert config["cuda"] == (importlib.util.find_spec("slipstick._cuda") is not None)


def test_a_cuda_extension_of_another_version_is_left_out_with_a_warning(monkeypatch):
    extension = types.SimpleNamespace(version=lambda: "0.0.1")
    monkeypatch.setattr(_extension.importlib.util, "find_spec", lambda name: extension)
    monkeypatch.setattr(_extension.importlib, "import_module", lambda name: extension)
    with pytest.warns(RuntimeWarning, match=r"its CUDA extension, left out, 0\.0\.1; expected slipstick-cu13 of the same version"):
        assert _extension.cuda_extension.__wrapped__() is None
    extension.version = lambda: slipstick.__version__
    assert _extension.cuda_extension.__wrapped__() is extension
    monkeypatch.setattr(_extension.importlib.util, "find_spec", lambda name: None)
    assert _extension.cuda_extension.__wrapped__() is None


def test_changing_the_returned_dict_changes_nothing():
    slipstick.config()["isa_levels"].append("v9")
    assert "v9" not in slipstick.config()["isa_levels"]


def test_import_loads_no_heavy_package_and_prints_nothing():
    heavy = ["numpy", "scipy", "torch", "zstandard", "asyncio", "multiprocessing", "typing"]
    result = run_python(
        f"import sys, slipstick; slipstick.config(); sys.exit(repr([m for m in {heavy} if m in sys.modules] or ''))", PYTHONPATH=""
    )
    assert (result.stdout, result.stderr.strip()) == ("", "''")


def test_every_public_name_exists_and_an_unknown_one_is_an_attribute_error():
    for name in slipstick.__all__:
        assert hasattr(slipstick, name)
    assert set(slipstick.__all__) < set(dir(slipstick))
    with pytest.raises(AttributeError, match="module 'slipstick' has no attribute 'nonsense'"):
        slipstick.nonsense


@pytest.mark.parametrize("name", ["CorruptArchiveError", "LimitExceededError", "UnsupportedError"])
def test_exception_classes_are_value_errors_and_pickle(name):
    cls = getattr(slipstick, name)
    assert issubclass(cls, ValueError) and cls is not ValueError
    copy = pickle.loads(pickle.dumps(cls("block 3")))
    assert type(copy) is cls and str(copy) == "block 3"
    assert cls.__module__ == "slipstick" and cls.__doc__


def test_core_errors_become_python_errors_of_their_kind():
    with pytest.raises(ValueError, match="RandomStream: blocks is -1; expected 0 or more") as invalid:
        slipstick._core.random_bytes(1, 1, 0, -1)
    assert type(invalid.value) is ValueError
    with pytest.raises(slipstick.LimitExceededError, match=r"random_bytes: blocks is 4611686018427387904; expected at most"):
        slipstick._core.random_bytes(1, 1, 0, 2**62)


def test_stubs_and_type_marker_are_installed():
    assert os.path.exists(os.path.join(os.path.dirname(slipstick.__file__), "py.typed"))
    beside_extension = pathlib.Path(slipstick._core.__file__).parent
    stub = (beside_extension / "_core" / "__init__.pyi").read_text()
    assert "def isa_levels() -> list[str]" in stub
    assert "from _core" not in stub
