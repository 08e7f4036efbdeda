"""``hearsee validate record``: a suite through the full-precision reference, to one npz."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from app.common.errors import ConfigError, ValidationError
from app.validation.recording import RecordingWriter
from app.validation.suite import load_suite

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from app.validation.reference.model import Reference
    from app.validation.suite import Case

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
    with RecordingWriter(out) as writer:
        for case in cases:
            writer.add(case.id, _run(reference, case, suite))
            logger.info("recorded case %s", case.id)
    return len(cases)


def _run(reference: Reference, case: Case, suite: Path) -> dict[str, np.ndarray]:
    try:
        arrays: dict[str, np.ndarray] = reference.run(case)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValidationError(f"{suite}: case '{case.id}': {error}") from error
    return arrays
