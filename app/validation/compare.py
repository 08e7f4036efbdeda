"""``hearsee validate compare``: how far a run is from its reference, overall and per mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.common.errors import ValidationError
from app.validation.recording import read_recording

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from app.validation.recording import Recording

MODES = ("text", "speech", "vision", "vision_speech")
EMBEDDINGS = ("image_embeddings", "audio_embeddings")


@dataclass(frozen=True, slots=True)
class CaseDistance:
    """One case of a run against its reference.

    Attributes:
        case: the id.
        mode: from the media it holds.
        tokens_equal: whether all token ids are the same.
        top1: bool (n_rows,), whether run and reference rank the same token first.
        kl: float64 (n_rows,), KL divergence of the run from the reference in nats.
        squares: array name -> (squared L2 of the difference, squared L2 of the reference).
    """

    case: str
    mode: str
    tokens_equal: bool
    top1: NDArray[np.bool_]
    kl: NDArray[np.float64]
    squares: dict[str, tuple[float, float]]

    def relative_l2(self, name: str) -> float | None:
        """Relative L2 distance of one array, None where the case has none of that name."""
        return None if name not in self.squares else _ratio(*self.squares[name])


def compare_files(run: Path, reference: Path) -> dict[str, float]:
    """Compare two recordings.

    Returns:
        Flat figures; each also per mode that occurs, as ``speech_top1_agreement``.

    Raises:
        ValidationError: a file is no recording, or the two do not hold the same cases and shapes.
    """
    return figures(case_distances(read_recording(run), read_recording(reference)))


def case_distances(run: Recording, reference: Recording) -> list[CaseDistance]:
    """Distances of every case, in the reference's order.

    Raises:
        ValidationError: cases, arrays or shapes differ, or numbers are not finite.
    """
    missing, extra = sorted(set(reference) - set(run)), sorted(set(run) - set(reference))
    if missing or extra:
        side, name = ("run", missing[0]) if missing else ("reference", extra[0])
        raise ValidationError(f"case '{name}' is not in the {side}; compare recordings of one suite")
    if not reference:
        raise ValidationError("the recordings hold no cases; run a suite with at least one")
    return [_case_distance(case, run[case], reference[case]) for case in reference]


def _case_distance(case: str, run: dict[str, NDArray[Any]], reference: dict[str, NDArray[Any]]) -> CaseDistance:
    if not {"tokens", "logits"} <= set(reference) <= set(run):
        found, wanted = (", ".join(sorted(arrays)) for arrays in (run, reference))
        raise ValidationError(f"case '{case}': run has {found}, reference has {wanted}; record both again")
    for name in reference:
        _check_array(case, name, run[name], reference[name])
    ours, theirs = (_float64(arrays["logits"]) for arrays in (run, reference))
    return CaseDistance(
        case, mode_of(run), np.array_equal(run["tokens"], reference["tokens"]),
        ours.argmax(1) == theirs.argmax(1), kl_divergence(theirs, ours),
        {name: _squares(run[name], reference[name]) for name in (*EMBEDDINGS, "logits") if name in reference},
    )  # fmt: skip


def _check_array(case: str, name: str, run: NDArray[Any], reference: NDArray[Any]) -> None:
    wanted_dims = 1 if name == "tokens" else 2
    if (name != "tokens" and run.shape != reference.shape) or reference.ndim != wanted_dims or run.ndim != wanted_dims:
        raise ValidationError(
            f"case '{case}': {name} has shape {run.shape}, the reference {reference.shape}; record both again"
        )
    for label, array in (("run", run), ("reference", reference)):
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValidationError(
                f"case '{case}': {name} of the {label} is not all finite numbers; the {label} is broken"
            )


def mode_of(arrays: Iterable[str]) -> str:
    """Mode of a recorded case, from which embeddings it has."""
    names = [mode for kind, mode in (("image_embeddings", "vision"), ("audio_embeddings", "speech")) if kind in arrays]
    return "_".join(names) or "text"


def kl_divergence(reference: NDArray[np.float64], run: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL divergence in nats of each row of logits (n, vocab) of the run from the reference's."""
    log_p, log_q = log_softmax(reference), log_softmax(run)
    divergence: NDArray[np.float64] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return np.maximum(divergence, 0.0)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log probabilities of rows of logits (n, vocab)."""
    shifted: NDArray[np.float64] = logits - logits.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = np.exp(shifted).sum(axis=1, keepdims=True)
    return shifted - np.log(total)


def figures(distances: list[CaseDistance]) -> dict[str, float]:
    """All figures: overall, then per mode with the mode as prefix."""
    result = _figures(distances)
    for mode in MODES:
        of_mode = [distance for distance in distances if distance.mode == mode]
        if of_mode:
            result.update({f"{mode}_{name}": value for name, value in _figures(of_mode).items()})
    return result


def _figures(distances: list[CaseDistance]) -> dict[str, float]:
    top1 = np.concatenate([distance.top1 for distance in distances])
    kl = np.concatenate([distance.kl for distance in distances])
    result = {
        "cases": len(distances), "rows": len(top1),
        "tokens_equal": float(np.mean([distance.tokens_equal for distance in distances])),
        "top1_agreement": float(top1.mean()), "mean_kl": float(kl.mean()), "p99_kl": float(np.percentile(kl, 99)),
    }  # fmt: skip
    for name in (*EMBEDDINGS, "logits"):
        result.update(_l2_figures(name, distances))
    return result


def _l2_figures(name: str, distances: list[CaseDistance]) -> dict[str, float]:
    squares = [distance.squares[name] for distance in distances if name in distance.squares]
    if not squares:
        return {}
    pooled = _ratio(*np.sum(squares, axis=0))
    return {f"{name}_relative_l2": pooled, f"{name}_worst_relative_l2": max(_ratio(*pair) for pair in squares)}


def _squares(run: NDArray[Any], reference: NDArray[Any]) -> tuple[float, float]:
    expected = _float64(reference)
    return float(np.square(_float64(run) - expected).sum()), float(np.square(expected).sum())


def _ratio(difference: float, reference: float) -> float:
    return float(np.sqrt(difference / reference)) if reference else float(difference > 0)


def _float64(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)
