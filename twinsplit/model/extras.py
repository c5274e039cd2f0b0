"""Packages that only some commands need, and where they come from when they are missing."""

from __future__ import annotations

from twinsplit.errors import ConfigurationError


def need_onnx() -> None:
    """See that onnx is there.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        import onnx  # noqa: F401 - only whether it can be imported
    except ImportError:
        raise ConfigurationError("this command needs onnx; pip install 'twinsplit[model]'") from None


def need_torch() -> None:
    """See that torch is there.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        import torch  # noqa: F401 - only whether it can be imported
    except ImportError:
        raise ConfigurationError(
            "this command needs torch; pip install 'twinsplit[model]' (on x86-64 without a GPU first "
            "pip install torch --index-url https://download.pytorch.org/whl/cpu: the ordinary one brings CUDA)"
        ) from None
