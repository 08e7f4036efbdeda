"""How weight matrices lie in memory, and which way is best on a device."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from app.runtime.encoders.backend import native_device, optional_function
from app.runtime.ffi import ggml_backend as gb
from app.runtime.formats.ggml_types import GgmlType

if TYPE_CHECKING:
    from app.runtime.encoders.backend import Backend

FLOATS = (GgmlType.F32, GgmlType.F16, GgmlType.BF16)


class Layout(StrEnum):
    """How matrices lie in memory while an encoder runs."""

    STORED = "stored"  # as in the file
    F32 = "f32"  # expanded: float32 products
    BF16 = "bf16"  # quantized ones expanded: fast where the CPU multiplies bfloat16


def choose_layout(backend: Backend, *, exact: bool) -> Layout:
    """The measured best for the device (docs/performance.md); float32 if results must be exact."""
    if exact:
        return Layout.F32
    return Layout.BF16 if backend.is_cpu and "AVX512_BF16" in cpu_features(backend.cpu_name) else Layout.STORED


def expanded_type(layout: Layout, stored: GgmlType) -> GgmlType | None:
    """The type a matrix stored as ``stored`` is expanded to; None if it stays."""
    if layout is Layout.F32 and stored is not GgmlType.F32:
        return GgmlType.F32
    if layout is Layout.BF16 and stored not in FLOATS:
        return GgmlType.BF16
    return None


def cpu_features(cpu_name: str) -> set[str]:
    """Instruction sets the CPU back end uses on this machine, e.g. "AVX512_BF16"."""
    address = optional_function(cpu_name, b"ggml_backend_get_features")
    if not address:
        return set()
    feature = gb.GetFeatures(address)(gb.ggml_backend_dev_backend_reg(native_device(cpu_name)))
    found, index = set(), 0
    while feature and feature[index].name:
        if feature[index].value == b"1":
            found.add(feature[index].name.decode())
        index += 1
    return found
