"""JSON schema to the grammar (GBNF) that llama.cpp's sampler enforces."""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import TYPE_CHECKING, Any

from app.common.errors import ConfigError
from app.runtime.ffi.loader import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def grammar_of_schema(schema: Mapping[str, Any] | str) -> str:
    """GBNF text that allows the JSON texts of a schema; numeric ranges in it are not enforced.

    Args:
        schema: the JSON schema, as text or parsed.

    Raises:
        ConfigError: the schema cannot be turned into a grammar.
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if not isinstance(json.loads(text), dict):
            raise ConfigError("a JSON schema must be an object")
        return _converter()(text)
    except ConfigError:
        raise
    except Exception as error:  # the converter raises whatever it stumbles over
        raise ConfigError(f"the JSON schema cannot become a grammar: {type(error).__name__}: {error}") from error


@functools.cache
def _converter() -> Callable[[str], str]:
    """llama-cpp-python's converter, loaded as a file: the package itself would load a server and a second log."""
    package = importlib.util.find_spec("llama_cpp")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise ConfigError(f"the package {PACKAGE} is not installed; run: make setup")
    spec = importlib.util.spec_from_file_location("app_llama_grammar", f"{folders[0]}/llama_grammar.py")
    if spec is None or spec.loader is None:
        raise ConfigError(f"the package {PACKAGE} has no grammar converter; run: make setup")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    convert: Callable[[str], str] = module.json_schema_to_gbnf
    return convert
