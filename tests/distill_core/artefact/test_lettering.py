from __future__ import annotations

import logging

import pytest
from PIL import ImageFont

from distill_core.artefact import lettering
from distill_core.artefact.lettering import as_drawn, font_for

NO_GLYPH = "\uffff"


@pytest.mark.parametrize("name", ["дуб", "café", "cafe\u0301", "straße", "ελιά"])
def test_letters_of_europe_are_drawn_and_not_as_boxes(name: str) -> None:
    text = as_drawn(name)
    font = font_for(text, 14)
    box = bytes(font.getmask(NO_GLYPH))
    assert text.isprintable()
    assert "\\" not in text
    assert all(bytes(font.getmask(letter)) != box for letter in text)


def test_plain_names_are_drawn_as_ever() -> None:
    assert as_drawn("palm_tree") == "palm_tree"
    pillow = ImageFont.load_default(size=14)
    assert bytes(font_for("palm", 14).getmask("palm")) == bytes(pillow.getmask("palm"))


def test_letters_that_no_font_has_are_escaped_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lettering, "_file_for", lambda letters: None)
    for each in (as_drawn, lettering._told):
        each.cache_clear()
    with caplog.at_level(logging.WARNING, logger="distill"):
        assert as_drawn("猫 a") == "\\u732b a"
        assert as_drawn("犬") == "\\u72ac"  # of many such classes one is enough
    as_drawn.cache_clear()
    (record,) = caplog.records
    assert "no font on this machine" in record.getMessage()


def test_a_font_whose_file_is_gone_has_no_letters() -> None:
    assert lettering._letters("/nowhere.ttf") == frozenset()
