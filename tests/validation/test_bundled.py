"""The bundled demo model at 8 bit against its own float32, as ``hearsee validate compare`` states it."""

import json

from app.cli import main as cli


def test_the_bundled_model_keeps_what_its_full_precision_says(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "set_up_logging", lambda: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert cli.main(["validate", "compare", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens_equal"] == 1.0, "the reference is of another model: python -m training.reference makes it anew"
    assert found["top1_agreement"] >= 0.98
    for mode in ("text", "speech", "vision", "vision_speech"):
        assert found[f"{mode}_rows"] >= 100
        assert found[f"{mode}_top1_agreement"] >= 0.97
        assert found[f"{mode}_mean_kl"] <= 1e-2
