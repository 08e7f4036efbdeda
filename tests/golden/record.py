"""Record the golden vectors anew: ``python -m tests.golden.record`` (needs the extra ``reference``).

For each checkpoint of ``specs.py`` it writes ``NAME.npz`` (what ``hearsee validate record`` gives for the generated
suite) and ``NAME.sha256``, the digest of the weights it was recorded with.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from app.validation.record import record
from tests.golden.sample_suite import write_sample_suite
from tests.golden.specs import GOLDEN_DIR, GOLDENS, make_checkpoint, weights_sha256


def main() -> int:
    """Record every golden, or those named as arguments."""
    for name in sys.argv[1:] or GOLDENS:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, suite = Path(folder, "checkpoint"), Path(folder, "suite")
            make_checkpoint(name, checkpoint)
            write_sample_suite(suite, without=GOLDENS[name].without)
            count = record(checkpoint, suite, GOLDEN_DIR / f"{name}.npz")
            (GOLDEN_DIR / f"{name}.sha256").write_text(weights_sha256(checkpoint) + "\n")
            print(f"{name}: {count} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
