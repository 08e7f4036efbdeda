"""A comparison as a short Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.validation.compare import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = (
    ("cases", "cases", "{:.0f}"),
    ("answer tokens", "rows", "{:.0f}"),
    ("same ids", "tokens_equal", "{:.1%}"),
    ("top-1 agreement", "top1_agreement", "{:.2%}"),
    ("mean KL", "mean_kl", "{:.2e}"),
    ("p99 KL", "p99_kl", "{:.2e}"),
    ("pictures L2", "image_embeddings_relative_l2", "{:.1e}"),
    ("sound L2", "audio_embeddings_relative_l2", "{:.1e}"),
    ("logits L2", "logits_relative_l2", "{:.1e}"),
)


def markdown(figures: Mapping[str, float]) -> str:
    """One table, a row per mode and one for all; L2 is relative to the reference."""
    head = "| mode | " + " | ".join(title for title, _, _ in COLUMNS) + " |"
    lines = [head, "|" + "---|" * (len(COLUMNS) + 1), _row("all", "", figures)]
    lines += [_row(mode, f"{mode}_", figures) for mode in MODES if f"{mode}_rows" in figures]
    return "\n".join(lines) + "\n"


def _row(label: str, prefix: str, figures: Mapping[str, float]) -> str:
    cells = (form.format(figures[prefix + name]) if prefix + name in figures else "" for _, name, form in COLUMNS)
    return f"| {label} | " + " | ".join(cells) + " |"
