"""``hearsee validate record``: a suite through the full-precision reference, to one npz."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from app.common.errors import ConfigError, ValidationError
from app.validation.recording import write_recording
from app.validation.suite import load_suite

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

logger = logging.getLogger("app.validation")


def record(checkpoint: Path, suite: Path, out: Path) -> int:
    """Record every case of ``suite`` with the checkpoint folder ``checkpoint`` into ``out``; returns their number.

    Raises:
        ConfigError: the extra ``reference`` is not installed.
        ValidationError: the suite, a medium or the checkpoint is unusable.
    """
    try:
        from app.validation.reference.model import Reference
    except ImportError as error:
        raise ConfigError(
            f"recording a reference needs {error.name}; install the extra: pip install 'hearsee[reference]'"
        ) from error
    cases = load_suite(suite)
    reference = Reference(checkpoint)
    arrays: dict[str, np.ndarray] = {}
    for case in cases:
        try:
            result = reference.run(case)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValidationError(f"{suite}: case '{case.id}': {error}") from error
        arrays.update({f"{case.id}/{name}": array for name, array in result.items()})
        logger.info("recorded case %s", case.id)
    write_recording(out, arrays)
    return len(cases)
