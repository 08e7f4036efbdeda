"""Typed C functions from annotated Python stubs.

A stub is a function without a body whose annotations are the C signature::

    @native_function
    def ggml_nelements(tensor: Tensor) -> Int64: "Number of elements."

Nothing is loaded on import: the symbol is looked up on the first call. A stub whose return type
is a pointer raises NativeCallError on NULL; write ``... | None`` where NULL is an answer.
"""

from __future__ import annotations

import ctypes
import functools
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, ParamSpec, TypeVar, Union

from app.common.errors import NativeCallError
from app.runtime.ffi import native_log
from app.runtime.ffi.loader import native

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

Bool = Annotated[bool, ctypes.c_bool]
Int32 = Annotated[int, ctypes.c_int32]
UInt32 = Annotated[int, ctypes.c_uint32]
Int64 = Annotated[int, ctypes.c_int64]
Size = Annotated[int, ctypes.c_size_t]
Float = Annotated[float, ctypes.c_float]
Text = Annotated[bytes, ctypes.c_char_p]
Address = Annotated[int, ctypes.c_void_p]
"""A plain address; arguments may also be None or any ctypes array or reference."""
Reference = Annotated[Any, ctypes.c_void_p]
"""``ctypes.byref``, an array, a callback, an address or None."""


class NativeFunction(Generic[P, R]):
    """A C function that is looked up and typed on its first call.

    Attributes:
        name: the C name.
    """

    def __init__(self, stub: Callable[P, R]) -> None:
        """Remember the stub; nothing is loaded yet."""
        self.name = stub.__name__
        self._stub = stub
        self._bound: Callable[..., R] | None = None
        functools.update_wrapper(self, stub)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it; arguments are positional, as in C."""
        if kwargs:
            raise TypeError(f"{self.name} takes positional arguments only")
        return (self._bound or self.bind())(*args)

    def bind(self) -> Callable[..., R]:
        """The typed ctypes function, for loops that count nanoseconds.

        Raises:
            NativeCallError: the library has no such function.
        """
        function = native().symbol(self.name)
        if function is None:
            raise NativeCallError(self.name, "the installed llama-cpp-python does not have this function")
        argument_types, result_type, null_fails = _signature(self._stub)
        function.argtypes, function.restype = argument_types, result_type
        if null_fails:
            function.errcheck = functools.partial(_refuse_null, self.name)  # type: ignore[assignment]
        self._bound = typing.cast("Callable[..., R]", function)
        return self._bound

    @property
    def available(self) -> bool:
        """True if the loaded libraries have this function."""
        return native().symbol(self.name) is not None


def native_function(stub: Callable[P, R]) -> NativeFunction[P, R]:
    """Decorator: make an annotated stub call the C function of the same name."""
    return NativeFunction(stub)


def fail(call: str, message: str, code: int | None = None) -> NoReturn:
    """Raise NativeCallError with what the library said about it."""
    raise NativeCallError(call, native_log.with_troubles(message), code)


def _refuse_null(name: str, result: object, _function: object, _arguments: object) -> object:
    if result is None:
        fail(name, "it returned nothing; the device may be out of memory")
    return result


def _signature(stub: Callable[..., object]) -> tuple[list[type], type | None, bool]:
    """C argument types, result type, and whether NULL as a result is a failure."""
    hints = typing.get_type_hints(stub, include_extras=True)
    result = hints.pop("return")
    if result is type(None):
        return [_c_type(hint) for hint in hints.values()], None, False
    kind = _c_type(result)
    null_fails = kind in (ctypes.c_void_p, ctypes.c_char_p) and not _is_optional(result)
    return [_c_type(hint) for hint in hints.values()], kind, null_fails


def _is_optional(hint: object) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType) and type(None) in typing.get_args(hint)


def _c_type(hint: object) -> type:
    """The ctypes type of an annotation: of Annotated[...] its second part, of X | None that of X."""
    if _is_optional(hint):
        return _c_type(next(part for part in typing.get_args(hint) if part is not type(None)))
    if typing.get_origin(hint) is Annotated:
        return typing.cast("type", typing.get_args(hint)[1])
    if isinstance(hint, type) and issubclass(hint, ctypes.Structure):
        return hint
    raise TypeError(f"no C type for annotation {hint!r}")
