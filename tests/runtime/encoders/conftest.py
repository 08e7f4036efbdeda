import sys
from pathlib import Path

import pytest

from app.runtime.encoders.backend import Backend

sys.path.insert(0, str(Path(__file__).parent))  # small_models and the references lie beside the tests


@pytest.fixture(scope="session")
def cpu():
    with Backend("cpu", n_threads=2) as backend:
        yield backend
