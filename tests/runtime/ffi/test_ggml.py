import ctypes

import numpy as np
import pytest

from app.runtime.ffi import ggml, ggml_backend
from app.runtime.ffi.binding import NativeFunction

_FUNCTIONS = [f for module in (ggml, ggml_backend) for f in vars(module).values() if isinstance(f, NativeFunction)]


@pytest.mark.parametrize("function", _FUNCTIONS, ids=lambda f: f.name)
def test_every_declared_function_exists_and_binds(function):
    assert function.bind().argtypes is not None


def test_init_params_is_laid_out_as_in_c():
    assert ctypes.sizeof(ggml.InitParams) == 3 * ctypes.sizeof(ctypes.c_size_t)


def test_a_context_reports_what_was_put_into_it():
    context = ggml.ggml_init(ggml.InitParams(4 * ggml.ggml_tensor_overhead(), None, True))
    try:
        tensor = ggml.ggml_new_tensor(context, ggml.TYPE_Q8_0, 2, (ctypes.c_int64 * 2)(64, 3))
        assert ggml.ggml_nbytes(tensor) == 3 * 2 * 34
        assert ggml.ggml_nelements(tensor) == 192
    finally:
        ggml.ggml_free(context)


def test_quantizing_q8_0_keeps_rows_to_half_a_step():
    rows = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    packed = np.zeros(4 * ggml.ggml_row_size(ggml.TYPE_Q8_0, 64), np.uint8)
    written = ggml.ggml_quantize_chunk(ggml.TYPE_Q8_0, rows.ctypes.data, packed.ctypes.data, 0, 4, 64, None)
    assert written == packed.nbytes
    blocks = packed.reshape(-1, 34)
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    restored = (scales * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)).reshape(4, 64)
    step = np.abs(rows.reshape(-1, 32)).max(axis=1) / 127
    assert (np.abs(restored - rows).reshape(-1, 32).max(axis=1) <= 0.6 * step).all()
