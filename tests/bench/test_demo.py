import json

import pytest

from app.bench import demo
from app.common.errors import ConfigError
from app.validation.suite import Case, CaseMessage, CasePart, load_suite


def case(name, answer, *kinds):
    parts = tuple(CasePart(kind, "x") for kind in kinds)
    return Case(name, (CaseMessage("user", parts),), answer)


def test_figures_count_whole_answers_per_task_and_agreement_per_mode():
    cases = [case("read-00", "A.", "image"), case("read-01", "B.", "image"), case("ask-00", "C.", "audio")]
    answers = {"read-00": "A.", "read-01": "A.", "ask-00": "C."}
    recorded = {"read-00": "A.", "read-01": "B."}
    found = demo.figures(cases, answers, recorded, {"read-00": (3, 4), "read-01": (4, 4)})
    assert found == {"acc_read": 1.0, "acc_read_q8": 0.5, "acc_ask_q8": 1.0, "vision_top1_agreement": 7 / 8}


def test_damaged_recording_is_one_error(tmp_path):
    (tmp_path / "float32.json").write_text("{")
    with pytest.raises(ConfigError, match=r"float32\.json"):
        demo.read_recorded(tmp_path)
    assert demo.read_recorded(tmp_path / "nowhere") == {}


def test_shipped_set_is_a_suite_with_enough_cases_per_task():
    cases = load_suite(demo.heldout_dir())
    counts = {task: sum(demo.task_of(c) == task for c in cases) for task in map(demo.task_of, cases)}
    assert min(counts.values()) >= 12


def test_every_shipped_case_has_its_float32_answer():
    recorded = json.loads((demo.heldout_dir() / "float32.json").read_text())["cases"]
    assert recorded.keys() == {c.id for c in load_suite(demo.heldout_dir())}
    assert all(len(entry["top1"]) == len(entry["answer_ids"]) + 1 for entry in recorded.values())
