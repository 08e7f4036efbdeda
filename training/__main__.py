"""``python -m training``: the whole run, from sentences to a checkpoint; every step is skipped when it is done.

Two processes at a time, one thread each: stages that do not depend on each other run side by side. A stopped run
continues from its checkpoints.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from .bundle import make_samples
from .clips import make_test_clips, make_training_clips
from .finish import report, write_checkpoint, write_record
from .heldout import make_held_out
from .stages import audio, base, joint, vision
from .tokenizer import load_codec

# Minutes of running time per stage on one core of a 2-core server; groups run side by side.
MINUTES = {"base": 56.0, "vision": 48.0, "audio": 54.0, "joint": 60.0}
GROUPS = [["clips-0", "clips-1"], ["base", "audio", "vision"], ["joint-0", "joint-1"]]
CHUNKS = 20


def run_stage(name: str, work: Path, scale: float) -> None:
    """One step in this process."""
    if name.startswith("clips-"):
        worker = int(name[-1])
        if worker == 0 and not (work / "clips" / "other-000.json").exists():
            make_test_clips(work / "clips", 900)
        make_training_clips(work / "clips", worker, max(1, round(CHUNKS * scale)))
    elif (work / f"{name.partition('-')[0]}.done").exists():
        print(f"{name}: done before")
    elif name.startswith("joint-"):
        joint.run(work, MINUTES["joint"] * scale, int(name[-1]), 2)
    else:
        {"base": base, "vision": vision, "audio": audio}[name].run(work, MINUTES[name] * scale)


def run_all(arguments: argparse.Namespace) -> None:
    """Every step in order; a failing step stops the run."""
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    load_codec(work / "tokenizer.json")
    common = ["--work", str(work), "--scale", str(arguments.scale)]
    (work / "joint.meeting").unlink(missing_ok=True)
    for group in GROUPS:
        command = [sys.executable, "-m", "training", *common, "--stage"]
        started = [subprocess.Popen([*command, name]) for name in group]
        if any(process.wait() for process in started):
            raise SystemExit(f"a step of {', '.join(group)} failed")
    write_checkpoint(work, work / "checkpoint")
    make_held_out(work / "heldout")
    make_samples(work / "samples")
    write_record(work, work / "heldout")
    print(report(work, work / "heldout"))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="data, checkpoints and logs")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the data and the time of every stage")
    parser.add_argument("--stage", help="run only this step, e.g. base, clips-0")
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(arguments.stage, arguments.work, arguments.scale)
    else:
        run_all(arguments)


if __name__ == "__main__":
    main()
