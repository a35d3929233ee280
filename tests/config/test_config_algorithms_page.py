"""docs/algorithms.md is made from the cards, and the cards are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.config.algorithms_page import by_family, facts, markdown
from fedray.config.load import load
from fedray.config.presets import ALGORITHMS
from fedray.parts.cards import FAMILIES, MODES

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == markdown(), "run: fedray algorithms reference > docs/algorithms.md"


def test_every_algorithm_has_a_section_under_its_family() -> None:
    page = markdown()
    assert all(f"\n### {name}\n" in page for name in ALGORITHMS)
    assert sum(map(len, by_family().values())) == len(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_card_says_what_a_reader_needs(name: str) -> None:
    card = ALGORITHMS[name]
    assert card.family in FAMILIES
    assert set(card.refuses) < set(MODES)
    assert card.rule
    assert card.title
    assert load({"algorithm": name}).config.server.schedule.mode not in card.refuses
    assert facts(card)["down"] >= 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_works_in_every_mode_or_says_why_not(name: str) -> None:
    from fedray.errors import InputError

    for mode in MODES:
        group = {"buffer_size": 10} if mode == "buffered" else {}
        settings = {"algorithm": name, "server.schedule": {"mode": mode, **group}}
        if mode in ALGORITHMS[name].refuses:
            with pytest.raises(InputError) as caught:
                load({}, settings)
            assert caught.value.key == "server.schedule.mode"
        else:
            load({}, settings)
