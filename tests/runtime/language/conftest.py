from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_language import tokenizer_json, write_adapter, write_language

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_tokenizer_json() -> str:
    return tokenizer_json()


@pytest.fixture(scope="session")
def language_path(tmp_path_factory) -> Path:
    return write_language(tmp_path_factory.mktemp("language") / "language.gguf")


@pytest.fixture(scope="session")
def adapter_paths(language_path) -> dict[str, Path]:
    folder = language_path.parent
    return {"speech": write_adapter(folder / "speech-adapter.gguf", 1),
            "vision": write_adapter(folder / "vision-adapter.gguf", 2, rank=5)}  # fmt: skip
