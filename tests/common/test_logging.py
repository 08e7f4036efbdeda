from __future__ import annotations

import logging

import pytest

from app.common.logging import log_path, set_up_logging


@pytest.fixture(autouse=True)
def _logger_as_before(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HEARSEE_DEBUG", raising=False)
    logger = logging.getLogger("app")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    for handler in logger.handlers:
        if handler not in before[2]:
            handler.close()
    logger.level, logger.propagate, logger.handlers = before


def test_the_log_takes_info_but_no_content_below_it():
    path = set_up_logging()
    logging.getLogger("app.somewhere").info("an event")
    logging.getLogger("app.somewhere").debug("the words of a question")
    assert path == log_path()
    text = path.read_text(encoding="utf-8")
    assert "an event" in text
    assert "the words" not in text


def test_debugging_takes_everything(monkeypatch):
    monkeypatch.setenv("HEARSEE_DEBUG", "1")
    path = set_up_logging()
    logging.getLogger("app.somewhere").debug("the words of a question \ud800")
    assert "the words" in path.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocker))
    assert set_up_logging() is None
    logging.getLogger("app.somewhere").error("goes nowhere")
