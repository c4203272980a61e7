"""slipstick: fast native code for four jobs around a training run, all of them about logarithms.

    >>> import slipstick
    >>> slipstick.config()["version"] == slipstick.__version__
    True

The rooms are submodules, imported when first used: ``slipstick.logs``, ``slipstick.losses``. Importing slipstick imports none of NumPy, SciPy, torch and zstandard.
"""

from __future__ import annotations

from slipstick import _core
from slipstick._errors import CorruptArchiveError, LimitExceededError, UnsupportedError

TYPE_CHECKING = False  # type checkers take it as true; importing typing for it would cost more than the rest of this import
if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "CorruptArchiveError",
    "LimitExceededError",
    "UnsupportedError",
    "config",
    "isa",
    "num_threads",
    "set_isa",
    "set_num_threads",
]

__version__: str = _core.version()

_ROOMS = ("logs", "losses", "lowbit", "sketch")
_threads_were_set = False  # by set_num_threads: then torch's own count does not matter


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        import importlib

        return importlib.import_module("slipstick." + name)
    raise AttributeError(f"module 'slipstick' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


def config() -> dict[str, object]:
    """What this installation is and how it runs here.

    Returns:
        A new dict: ``version`` (str), ``isa_levels`` (list of str, the instruction-set levels that run on this machine, lowest first),
        ``isa`` (str, the one in use), ``threads`` (int, the default count), ``cuda`` (bool, whether the CUDA extension is installed).
    Raises:
        ValueError: SLIPSTICK_ISA, SLIPSTICK_NUM_THREADS or OMP_NUM_THREADS holds something else than a level or a count.
    """
    from importlib.util import find_spec

    return {
        "version": __version__,
        "isa_levels": _core.isa_levels(),
        "isa": _core.isa(),
        "threads": _core.default_threads(),
        "cuda": find_spec("slipstick._cuda") is not None,
    }


def isa() -> str:
    """The instruction-set level in use: that of `set_isa`, else of SLIPSTICK_ISA, else the highest of this machine.

    Raises:
        ValueError: SLIPSTICK_ISA names no level of this machine.
    """
    return _core.isa()


def set_isa(name: str | None) -> None:
    """Force an instruction-set level for the whole process, for tests and measurements.

    Args:
        name: one of ``config()["isa_levels"]``, or None to return to the default.
    Raises:
        ValueError: this machine has no such level.
    Notes:
        Exact results are the same on every level; others stay within their stated bounds but may differ in the last bits.
    """
    if name == "":
        raise ValueError(f"set_isa: '' is not a level of this machine; expected one of {str(_core.isa_levels())[1:-1]}")
    _core.set_isa("" if name is None else name)


def num_threads() -> int:
    """Threads used where a call names none: those of `set_num_threads`, else of SLIPSTICK_NUM_THREADS, else the first number of
    OMP_NUM_THREADS, else the CPUs this process may run on.

    Raises:
        ValueError: one of these variables does not hold a count from 1 to 1024.
    """
    return _core.default_threads()


def set_num_threads(threads: int | None) -> None:
    """Set the number of threads used where a call names none. No result depends on it.

    Args:
        threads: 1 to 1024, or None to return to the environment, which is then read again.
    Raises:
        ValueError: threads is out of range.
        TypeError: threads is no integer.
    """
    from slipstick import _arguments

    _core.set_default_threads(_arguments.thread_count("set_num_threads", threads))
    global _threads_were_set
    _threads_were_set = threads is not None
