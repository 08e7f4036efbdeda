"""A checkpoint folder: its files mapped, its tensors under canonical names, its faults collected."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from app.common.errors import ConversionError
from app.convert import layouts
from app.convert.config import ADAPTER_NAMES
from app.convert.config_files import read_config
from app.convert.expected import EMBEDDING, LM_HEAD, expected_tensors, pooling_head_tensors
from app.convert.safetensors import SafetensorsFile
from app.convert.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from app.convert.config import CheckpointConfig

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
ADAPTER_FILE = "adapter_model.safetensors"
_NAMES_SHOWN = 8
BLOCK_VALUES = 1 << 24  # values handled at once: 64 MiB of float32


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: an open file and the name it has there."""

    file: SafetensorsFile
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        return self.file.tensors[self.name].shape

    @property
    def dtype(self) -> str:
        """``BF16``, ``F16``, ``F32`` or ``F64``."""
        return self.file.tensors[self.name].dtype


class Checkpoint:
    """An open checkpoint folder; a context manager.

    Attributes:
        config: what its configuration files say.
        tensors: canonical name to place; exactly the expected ones after :meth:`check`.
    """

    def __init__(self, folder: Path) -> None:
        """Map every file, detect the layout and read the configuration.

        Raises:
            ConversionError: a file is missing or malformed, or tensors appear twice.
        """
        self.folder = folder
        with ExitStack() as stack:
            files = [stack.enter_context(SafetensorsFile(path)) for path in _weight_files(folder)]
            layout = layouts.detect(name for file in files for name in file.tensors)
            self.tensors: dict[str, StoredTensor] = {}
            for file in files:
                self._add(file, layouts.from_original if layout == "original" else str)
            if layout == "native":
                self._add_adapters(stack)
            self.config: CheckpointConfig = read_config(folder, layout, self._shapes())
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Unmap the files."""
        self._stack.close()

    def _add_adapters(self, stack: ExitStack) -> None:
        for adapter in ADAPTER_NAMES:
            path = self.folder / layouts.ADAPTER_FOLDERS[adapter] / ADAPTER_FILE
            if not path.is_file():
                raise ConversionError(f"{path} is missing: this layout keeps each adapter in a folder of its own")
            file = stack.enter_context(SafetensorsFile(path))
            self._add(file, partial(layouts.from_adapter_folder, adapter=adapter))

    def _add(self, file: SafetensorsFile, canonical: Callable[[str], str]) -> None:
        for name in file.tensors:
            known = canonical(name)
            if known in self.tensors:
                raise ConversionError(f"{file.path}: tensor {name} appears twice in the checkpoint")
            self.tensors[known] = StoredTensor(file, name)

    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self.tensors.items()}

    def check(self, progress: Callable[[int, int], None]) -> dict[str, float]:
        """Account for every tensor and read each once.

        Args:
            progress: called with bytes read and bytes in total.

        Returns:
            The largest magnitude in each tensor, by canonical name.

        Raises:
            ConversionError: tensors are missing, unknown, misshapen or hold NaN or infinite values.
        """
        faults = _Faults()
        self._check_names(faults)
        self._check_shapes(faults)
        magnitudes = self._check_values(faults, progress)
        faults.raise_for(self.folder)
        return magnitudes

    def _required(self) -> dict[str, tuple[int, ...]]:
        required = expected_tensors(self.config)
        head = pooling_head_tensors(self.config.vision)
        return required | head if head.keys() & self.tensors.keys() else required

    def _check_names(self, faults: _Faults) -> None:
        required = self._required()
        faults.add("missing", sorted(required.keys() - self.tensors.keys()))
        unknown = self.tensors.keys() - required.keys()
        if LM_HEAD in unknown and self.config.language.tied:
            unknown.remove(LM_HEAD)
            if not self._same_bytes(LM_HEAD, EMBEDDING):
                faults.add("contradicting tie_word_embeddings", [LM_HEAD])
        faults.add("unknown", sorted(self.tensors[name].name for name in unknown))

    def _same_bytes(self, first: str, second: str) -> bool:
        one, other = self.tensors[first], self.tensors.get(second)
        return other is not None and one.file.raw(one.name).tobytes() == other.file.raw(other.name).tobytes()

    def _check_shapes(self, faults: _Faults) -> None:
        required = self._required()
        faults.add(
            "misshapen",
            [
                f"{stored.name} {list(stored.shape)} instead of {list(required[name])}"
                for name, stored in self.tensors.items()
                if name in required and stored.shape != required[name]
            ],
        )

    def _check_values(self, faults: _Faults, progress: Callable[[int, int], None]) -> dict[str, float]:
        total = sum(stored.file.raw(stored.name).nbytes for stored in self.tensors.values())
        magnitudes: dict[str, float] = {}
        done = 0
        for name, stored in self.tensors.items():
            magnitudes[name] = stored.file.magnitude(stored.name)
            stored.file.release(stored.name)
            done += stored.file.raw(stored.name).nbytes
            progress(done, total)
        bad = [self.tensors[name].name for name, value in magnitudes.items() if value == float("inf")]
        faults.add("with NaN or infinite values", bad)
        return magnitudes

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor by canonical name, float32 in its shape, a copy."""
        stored = self.tensors[name]
        values = stored.file.read_float32(stored.name)
        stored.file.release(stored.name)
        return values

    def read_blocks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """A matrix by canonical name in blocks of whole rows, float32."""
        stored = self.tensors[name]
        rows, columns = stored.shape
        step = max(1, BLOCK_VALUES // columns)
        for begin in range(0, rows, step):
            yield stored.file.read_float32(stored.name, begin, min(rows, begin + step))
        stored.file.release(stored.name)

    def raw_blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """A tensor by canonical name as it is stored, flat, in blocks; views of the map."""
        stored = self.tensors[name]
        raw = stored.file.raw(stored.name)
        for begin in range(0, len(raw), BLOCK_VALUES):
            yield raw[begin : begin + BLOCK_VALUES]
        stored.file.release(stored.name)

    def stored_type(self, names: Iterable[str]) -> str:
        """The one dtype of ``names``, or ``F32`` when they differ."""
        dtypes = {self.tensors[name].dtype for name in names}
        return dtypes.pop() if len(dtypes) == 1 else "F32"


class _Faults:
    """Tensor faults by kind, reported together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, kind: str, names: list[str]) -> None:
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            self._found.append(f"{len(names)} tensor(s) {kind}: {', '.join(names[:_NAMES_SHOWN])}{more}")

    def raise_for(self, folder: Path) -> None:
        if self._found:
            raise ConversionError(f"{folder} is not a complete checkpoint: {'; '.join(self._found)}")


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, by the index where there is one."""
    if (folder / INDEX_FILE).is_file():
        weight_map = read_settings(folder / INDEX_FILE).section("weight_map").values
        names = sorted({str(name) for name in weight_map.values()})
        if any(name != name.rsplit("/", 1)[-1].rsplit("\\", 1)[-1] for name in names):
            raise ConversionError(f"{folder / INDEX_FILE} names files outside the checkpoint's folder")
        paths = [folder / name for name in names]
    else:
        paths = [folder / SINGLE_FILE]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConversionError(f"{folder} has no {', '.join(missing) or SINGLE_FILE}; is this the checkpoint's folder?")
    return paths
