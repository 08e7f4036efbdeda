from pathlib import Path

import pytest

from app.common.errors import ConfigError, NativeCallError
from app.runtime.ffi import loader


def test_libraries_are_loaded_once_and_have_the_expected_symbols():
    libraries = loader.native()
    assert loader.native() is libraries
    assert set(libraries.libraries) == {"ggml-base", "ggml", "llama"}
    assert libraries.symbol("ggml_backend_sched_new") is not None
    assert libraries.symbol("llama_decode") is not None
    assert libraries.symbol("no_such_function") is None


@pytest.mark.parametrize("version", ["0.3.35", "0.3.360", "0.4.0", ""])
def test_another_package_version_is_refused_with_the_command_that_helps(version):
    with pytest.raises(ConfigError, match=r"pip install llama-cpp-python==0\.3\.36"):
        loader.check_package_version(version)


def test_a_local_build_of_the_pinned_version_is_accepted():
    loader.check_package_version("0.3.36+cu124")


@pytest.mark.parametrize(
    ("platform", "file"),
    [
        ("linux", "libggml.so"),
        ("darwin", "libggml.dylib"),
        ("darwin", "libggml.so"),
        ("win32", "ggml.dll"),
        ("win32", "libggml.dll"),
    ],
)
def test_library_names_of_every_platform(tmp_path: Path, platform, file):
    (tmp_path / file).touch()
    assert loader.library_file(tmp_path, "ggml", platform) == tmp_path / file


def test_missing_library_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"libllama\.so"):
        loader.library_file(tmp_path, "llama", "linux")


def test_a_file_that_is_no_library_is_a_native_error(tmp_path: Path):
    (tmp_path / "libggml.so").write_bytes(b"not a library")
    with pytest.raises(NativeCallError, match="reinstall"):
        loader._open(tmp_path / "libggml.so")


def test_a_foreign_library_fails_the_abi_check():
    import ctypes

    with pytest.raises(NativeCallError, match="not the expected"):
        loader._check_abi(ctypes.CDLL(None))
