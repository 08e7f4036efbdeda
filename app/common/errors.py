"""The one error tree.

Every message says what failed, on what, and what to do; the command line prints it as
``hearsee: <message>`` and exits 1. :class:`Cancelled` is deliberately outside the tree:
that the user changed their mind is not an error.
"""

from __future__ import annotations


class HearseeError(Exception):
    """Root of all errors a user may see."""


class ConfigError(HearseeError):
    """A setting, option or argument is unusable."""


class ModelFormatError(HearseeError):
    """A model file or directory is damaged, foreign or inconsistent."""


class ConversionError(HearseeError):
    """A checkpoint cannot be converted; names the tensors or keys at fault."""


class MediaError(HearseeError):
    """An image or sound cannot be decoded or is outside the supported limits."""


class NativeCallError(HearseeError):
    """A call into libggml or libllama failed.

    Attributes:
        call: the C function's name.
        code: its return code, or None where failure is a null pointer.
    """

    def __init__(self, call: str, message: str, code: int | None = None) -> None:
        """Build the message from the call, the code and what to do."""
        suffix = "" if code is None else f" (code {code})"
        super().__init__(f"{call} failed{suffix}: {message}")
        self.call = call
        self.code = code


class ContextOverflowError(HearseeError):
    """The prompt does not fit the context limit."""


class DeviceError(HearseeError):
    """A compute device is unknown, missing or out of memory."""


class CaptureError(HearseeError):
    """A microphone or camera is missing or failed."""


class ValidationError(HearseeError):
    """A validation suite or recording is unusable."""


class Cancelled(Exception):  # noqa: N818 - not an error, see the module docstring
    """The caller asked to stop; work done so far stays valid."""
