"""Golden checkpoints and their suites, made once per test run, and models converted from them."""

import shutil

import pytest

from app.convert.pipeline import convert
from tests.golden.sample_suite import write_sample_suite
from tests.golden.specs import GOLDEN_DIR, GOLDENS, make_checkpoint, weights_sha256


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """``golden(name)`` gives (checkpoint, suite, recording) paths; the checkpoint's weights are those recorded with."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            make_checkpoint(name, folder / "checkpoint")
            expected = (GOLDEN_DIR / f"{name}.sha256").read_text().strip()
            assert weights_sha256(folder / "checkpoint") == expected, (
                f"the generator of random checkpoints has changed: run python -m tests.golden.record {name}"
            )
            write_sample_suite(folder / "suite", without=GOLDENS[name].without)
            made[name] = folder / "checkpoint", folder / "suite", GOLDEN_DIR / f"{name}.npz"
        return made[name]

    return make


@pytest.fixture(scope="session")
def converted(golden, tmp_path_factory):
    """``converted(name, type)`` gives a model directory; quantized ones are made once."""
    made = {}

    def make(name, kind):
        if (name, kind) not in made:
            target = tmp_path_factory.mktemp(f"{name}-{kind}") / "model"
            convert(golden(name)[0], target, kind)
            made[name, kind] = target
        return made[name, kind]

    yield make
    for target in made.values():
        shutil.rmtree(target, ignore_errors=True)
