import pytest

from app.runtime.model import worthwhile_threads


@pytest.mark.parametrize(
    ("megabytes", "n_cores", "n_threads"),
    [(1, 8, 1), (20, 8, 1), (40, 8, 2), (2400, 8, 8), (2400, 64, 64), (2400, 1, 1)],
)
def test_small_language_models_keep_to_few_threads(megabytes, n_cores, n_threads):
    assert worthwhile_threads(megabytes << 20, n_cores) == n_threads
