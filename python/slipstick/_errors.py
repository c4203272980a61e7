"""The exceptions of slipstick that Python does not have. All are ValueErrors, so code that does not care can catch that."""

__all__ = ["CorruptArchiveError", "LimitExceededError", "UnsupportedError"]


class CorruptArchiveError(ValueError):
    """Stored data is damaged, truncated or not what it should be; the message says where."""

    __module__ = "slipstick"


class LimitExceededError(ValueError):
    """The input is legal but larger than a documented limit."""

    __module__ = "slipstick"


class UnsupportedError(ValueError):
    """A version, feature or device that this build or machine does not have."""

    __module__ = "slipstick"
