"""Find, load and check the shared libraries that llama-cpp-python ships.

The package itself is never imported: it drags in a server, a chat layer and its own log
handler. Its libraries are opened by path, once per process, on first use.

Threads: :func:`native` may be called from any thread.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from app.common.errors import ConfigError, NativeCallError
from app.runtime.ffi import native_log

PACKAGE = "llama-cpp-python"
PACKAGE_VERSION = "0.3.36"
GGML_VERSION = "0.25.3"  # what that version of the package carries
_INSTALL = f"run: pip install {PACKAGE}=={PACKAGE_VERSION}"

# ggml_type, elements per block, bytes per block: a foreign build that moved the enum fails here.
_KNOWN_TYPES = ((0, 1, 4), (1, 1, 2), (2, 32, 18), (8, 32, 34), (12, 256, 144), (14, 256, 210), (26, 1, 4), (30, 1, 2))

_lock = threading.RLock()
_loaded: NativeLibraries | None = None


@dataclass(frozen=True, slots=True)
class NativeLibraries:
    """The loaded libraries.

    Attributes:
        directory: where they lie.
        libraries: short name ("ggml-base", "ggml", "llama") to library.
    """

    directory: Path
    libraries: dict[str, ctypes.CDLL]

    def symbol(self, name: str) -> ctypes._NamedFuncPointer | None:
        """The C function called ``name`` in whichever library has it, untyped; None if absent."""
        for library in self.libraries.values():
            if hasattr(library, name):
                function: ctypes._NamedFuncPointer = library[name]
                return function
        return None


def native() -> NativeLibraries:
    """Load the libraries on the first call; the same object afterwards.

    Raises:
        ConfigError: the package is missing, of another version, or has no libraries.
        NativeCallError: a library cannot be loaded or is not what its version says.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load(library_directory())
        return _loaded


def library_directory() -> Path:
    """Folder of the shared libraries in the installed package.

    Raises:
        ConfigError: as :func:`native`.
    """
    check_package_version(_installed_version())
    spec = util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {PACKAGE} is damaged: no module llama_cpp; {_INSTALL}")
    directory = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(spec.submodule_search_locations[0]) / "lib")
    if not directory.is_dir():
        raise ConfigError(f"the package {PACKAGE} has no libraries in {directory}; {_INSTALL}")
    return directory


def _installed_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"the package {PACKAGE} is not installed; {_INSTALL}") from None


def check_package_version(version: str) -> None:
    """Raise ConfigError unless ``version`` is the one the bindings were written for."""
    if version.partition("+")[0] != PACKAGE_VERSION:
        raise ConfigError(f"{PACKAGE} is version {version}, Hearsee needs exactly {PACKAGE_VERSION}; {_INSTALL}")


def library_file(directory: Path, name: str, platform: str = sys.platform) -> Path:
    """Path of library ``name`` ("llama", "ggml-base"...) as it is called on ``platform``.

    Raises:
        ConfigError: there is no such file.
    """
    patterns = {"win32": (f"{name}.dll", f"lib{name}.dll"), "darwin": (f"lib{name}.dylib", f"lib{name}.so")}
    candidates = [directory / file for file in patterns.get(platform, (f"lib{name}.so",))]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(f"no {candidates[0].name} in {directory}: {PACKAGE} is damaged; {_INSTALL}")


def _limit_spinning() -> None:
    """Let ggml's OpenMP threads sleep soon at a barrier instead of spinning for milliseconds; before libgomp is loaded.

    Measured with two threads on two cores (decode of a Q4_K_M model, tokens/s): on a busy machine 24
    instead of 4.5 with the default, on an idle one 143 instead of 137.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _load(directory: Path) -> NativeLibraries:
    _limit_spinning()
    if sys.platform == "win32":
        os.add_dll_directory(str(directory))
    names = ("ggml-base", "ggml", "llama")  # each needs the ones before it
    loaded = NativeLibraries(directory, {name: _open(library_file(directory, name)) for name in names})
    native_log.install(loaded.libraries["ggml-base"], loaded.libraries["llama"])
    _check_abi(loaded.libraries["ggml-base"])
    _load_backends(loaded)
    return loaded


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        reason = f"{path}: {error}; reinstall it: pip install --force-reinstall {PACKAGE}=={PACKAGE_VERSION}"
        raise NativeCallError("dlopen", reason) from error


def _check_abi(base: ctypes.CDLL) -> None:
    """Compare version and type layout with what the bindings were written for."""
    try:
        base.ggml_version.restype = ctypes.c_char_p
        base.ggml_blck_size.restype, base.ggml_type_size.restype = ctypes.c_int64, ctypes.c_size_t
        version = (base.ggml_version() or b"").decode(errors="replace")
        layout = tuple((kind, base.ggml_blck_size(kind), base.ggml_type_size(kind)) for kind, _, _ in _KNOWN_TYPES)
    except AttributeError as error:
        raise NativeCallError("ggml_version", f"not the expected library ({error}); {_INSTALL}") from error
    if not version.startswith(GGML_VERSION) or layout != _KNOWN_TYPES:
        raise NativeCallError("ggml_version", f"ggml {version} is not the expected {GGML_VERSION}; {_INSTALL}")


def _load_backends(loaded: NativeLibraries) -> None:
    """Register back ends that were built as plug-ins; those linked in are registered already."""
    ggml = loaded.libraries["ggml"]
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    if ggml.ggml_backend_dev_count() == 0:
        ggml.ggml_backend_load_all_from_path(str(loaded.directory).encode())
    if ggml.ggml_backend_dev_count() == 0:
        raise NativeCallError("ggml_backend_dev_count", f"no compute device, not even the CPU; {_INSTALL}")
