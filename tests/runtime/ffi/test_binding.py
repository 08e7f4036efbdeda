from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Annotated

import pytest

from app.common.errors import NativeCallError
from app.runtime.ffi import native_log
from app.runtime.ffi.binding import Address, Int32, Reference, Size, Text, _signature, fail, native_function


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int32), ("b", ctypes.c_float)]


@native_function
def ggml_backend_dev_count() -> Size:
    """Number of devices."""


@native_function
def ggml_backend_dev_by_name(name: Text) -> Address:
    """A device, which must exist."""


@native_function
def ggml_type_name(kind: Int32) -> Text | None:
    """Name of a type."""


@native_function
def ggml_no_such_function() -> None:
    """Is not there."""


def test_annotations_become_the_c_signature():
    def stub(a: Int32, b: Text, c: Pair, d: Reference, e: Address | None) -> Annotated[float, ctypes.c_double]: ...

    assert _signature(stub) == (
        [ctypes.c_int32, ctypes.c_char_p, Pair, ctypes.c_void_p, ctypes.c_void_p],
        ctypes.c_double,
        False,
    )


def test_an_annotation_without_a_c_type_is_a_programming_error():
    def stub(a: list[int]) -> None: ...

    with pytest.raises(TypeError, match="no C type"):
        _signature(stub)


def test_calls_return_values_of_the_declared_type():
    assert ggml_backend_dev_count() >= 1
    assert ggml_type_name(8) == b"q8_0"


def test_null_is_an_error_unless_declared_optional():
    with pytest.raises(NativeCallError, match="ggml_backend_dev_by_name failed"):
        ggml_backend_dev_by_name(b"no such device")


def test_a_missing_symbol_is_a_native_error():
    assert not ggml_no_such_function.available
    with pytest.raises(NativeCallError, match="does not have this function"):
        ggml_no_such_function()


def test_keyword_arguments_are_refused():
    with pytest.raises(TypeError, match="positional"):
        ggml_type_name(kind=8)


def test_native_warnings_are_quoted_once_and_only_when_fresh(monkeypatch):
    native_log._on_log(3, b"first half, ", None)
    native_log._on_log(5, b"second half\n", None)
    native_log._on_log(2, b"only information\n", None)
    with pytest.raises(NativeCallError, match=r"ggml said: first half, second half\)"):
        fail("some_call", "it did not work", 7)
    assert native_log.recent_troubles() == ""
    native_log._on_log(4, b"old\n", None)
    monkeypatch.setattr(native_log, "_FRESH_S", -1.0)
    assert native_log.recent_troubles() == ""


def test_a_native_abort_says_why_in_one_line():
    script = (
        "from app.runtime.ffi.loader import native\n"
        "import ctypes\n"
        "native().libraries['ggml-base'].ggml_abort(b'file.c', 7, b'reason %d', 42)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "hearsee: the native library gave up: file.c:7: reason 42" in done.stderr
