"""What all stages share: time-based cosine schedule, optimiser, checkpoints that survive a stop, a log."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from random import Random


def optimiser(parameters: Iterable[nn.Parameter], decay: float = 0.02) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    trained = [weight for weight in parameters if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)


def rate(peak: float, progress: float, step: int, warm: int = 60) -> float:
    """Linear warm-up over steps, then a cosine over the stage's share of time."""
    return peak * min(1.0, (step + 1) / warm) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Team:
    """Processes that train one stage together by averaging gradients; alone unless ``join`` was called."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1

    def join(self, meeting: Path, rank: int, size: int) -> Team:
        """Meet the others through a file."""
        self.rank, self.size = rank, size
        if size > 1:
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
        return self

    def average(self, trained: list[nn.Parameter]) -> None:
        """Replace gradients by their mean over the team; a weight that one member did not use counts as zero there."""
        if self.size == 1:
            return
        flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in trained])
        dist.all_reduce(flat)
        start = 0
        for weight in trained:
            count = weight.numel()
            weight.grad = flat[start : start + count].view_as(weight) / self.size
            start += count

    def same(self, value: float) -> float:
        """The leader's value."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


def reseed(rng: Random, seed: int, step: int) -> None:
    """Make a batch depend on its step only, so that a run that was stopped goes on with new data."""
    rng.seed(seed * 10_000_000 + step)


@dataclass
class Stage:
    """The loop of one stage: time budget in minutes of running, kept over restarts; ``start``: the stage continued."""

    name: str
    folder: Path
    minutes: float
    peak: float
    step: int = 0
    spent: float = 0.0
    start: str | None = None
    leads: bool = True
    losses: dict[str, list[float]] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """Where weights, optimiser and progress are kept."""
        return self.folder / f"{self.name}.pt"

    @property
    def progress(self) -> float:
        """Share of the time used, 0 to 1."""
        return self.spent / (60 * self.minutes)

    def log(self, text: str) -> None:
        """One line to the stage's log and to the terminal."""
        if not self.leads:
            return
        line = f"{time.strftime('%H:%M:%S')} {self.name} {self.spent / 60:.1f} min step {self.step}: {text}"
        print(line, flush=True)
        with (self.folder / f"{self.name}.log").open("a") as file:
            file.write(line + "\n")

    def note(self, **losses: Tensor) -> None:
        """Remember losses for the next log line."""
        for key, value in losses.items():
            self.losses.setdefault(key, []).append(float(value.detach()))

    def summary(self) -> str:
        """Mean losses since the last line."""
        text = json.dumps({key: round(sum(values) / len(values), 4) for key, values in sorted(self.losses.items())})
        self.losses = {}
        return text

    def resume(self, modules: nn.Module, adam: torch.optim.Optimizer) -> None:
        """Take up the stage's checkpoint when there is one."""
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True)
            modules.load_state_dict(saved["model"])
            if "adam" in saved:
                adam.load_state_dict(saved["adam"])
            self.step, self.spent = saved["step"], saved["spent"]
            self.log("resumed")
        elif self.start:
            saved = torch.load(self.folder / f"{self.start}.pt", weights_only=True)
            modules.load_state_dict(saved["model"])
            self.log(f"continues {self.start}")

    def save(self, modules: nn.Module, adam: torch.optim.Optimizer) -> None:
        """Write the checkpoint atomically."""
        if not self.leads:
            return
        state = {"model": modules.state_dict(), "adam": adam.state_dict(), "step": self.step, "spent": self.spent}
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def run(
        self,
        modules: nn.Module,
        adam: torch.optim.Optimizer,
        loss: Callable[[], Tensor],
        evaluate: Callable[[], str],
        evaluations: int = 4,
        save_every: float = 120.0,
        team: Team | None = None,
    ) -> None:
        """Train until the time is used up; ``loss`` makes one batch and returns its loss."""
        team = team or Team()
        self.leads = team.rank == 0
        self.resume(modules, adam)
        trained = [weight for group in adam.param_groups for weight in group["params"]]
        next_log, next_save = self.spent + 30, self.spent + save_every
        checks = iter([k / evaluations for k in range(1, evaluations)])
        check = next((value for value in checks if value > self.progress), None)
        while self.progress < 1:
            started = time.monotonic()
            self._learn(adam, loss, trained, team)
            self.spent = team.same(self.spent + time.monotonic() - started)
            if self.spent > next_log:
                self.log(self.summary())
                next_log = self.spent + 60
            if self.spent > next_save:
                self.save(modules, adam)
                next_save = self.spent + save_every
            if check is not None and self.progress > check:
                self._evaluate(modules, evaluate)
                check = next(checks, None)
        self._evaluate(modules, evaluate)
        self.save(modules, adam)
        if self.leads:
            (self.folder / f"{self.name}.done").touch()

    def _learn(
        self, adam: torch.optim.Optimizer, loss: Callable[[], Tensor], trained: list[Tensor], team: Team
    ) -> None:
        """One step on one batch."""
        for group in adam.param_groups:
            group["lr"] = rate(self.peak, self.progress, self.step)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        adam.zero_grad(set_to_none=True)
        value.backward()
        team.average(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        self.step += 1

    def _evaluate(self, modules: nn.Module, evaluate: Callable[[], str]) -> None:
        if not self.leads:
            return
        modules.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            self.log("evaluated " + evaluate())
        modules.train()


def scores(results: Iterable[tuple[str, bool]]) -> str:
    """Share of right answers per task."""
    found: dict[str, list[bool]] = {}
    for task, right in results:
        found.setdefault(task, []).append(right)
    return " ".join(f"{task}={sum(v) / len(v):.3f}({len(v)})" for task, v in sorted(found.items()))


def batches(count: int) -> Iterator[int]:
    """Numbers of evaluation batches."""
    return iter(range(count))
