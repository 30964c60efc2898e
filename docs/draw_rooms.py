"""Draw architecture.md's picture of the rooms: ``python docs/draw_rooms.py``."""

from __future__ import annotations

from pathlib import Path

from _drawing import EDGE, INNER, Sheet, box, words

from rlsf.report.svg import MUTED

FIGURE = Path(__file__).parent / "figures" / "rooms.svg"
#: Floors from the top down, and what each of their rooms is for. A room may use those before it.
FLOORS: dict[str, dict[str, str]] = {
    "what tokens, answers, questions and models are": {
        "tokenstats": "statistics of a token",
        "answers": "answers, their spans",
        "confidence": "signals",
        "preferences": "ranked pairs",
        "prompts": "questions, templates",
        "models": "weights, tokenizers",
    },
    "measuring": {
        "evaluation": "accuracy, calibration",
        "calibration": "probability, threshold",
        "select": "one answer out of N",
    },
    "sampling and learning": {
        "sampling": "engines, workers",
        "scoring": "traces that exist",
        "judging": "P(True) of samples",
        "rewards": "rewards for TRL",
        "training": "thin TRL trainers",
        "introspection": "dialogues with itself",
        "acceptance": "accept or try again",
        "audit": "what was rewarded",
    },
    "product": {
        "recipes": "methods as data",
        "report": "pages, model card",
        "pipeline": "stages, resume",
        "demo": "model and problems",
        "cli": "commands",
    },
}
COLUMNS, GAP, HEIGHT = 3, 12, 62


def rooms() -> str:
    """The whole picture."""
    sheet = Sheet("Rooms of the code in the order in which they may use one another")
    width = (INNER - GAP * (COLUMNS - 1)) / COLUMNS
    for floor, of_floor in FLOORS.items():
        sheet.add(words(EDGE, sheet.y + 20, floor, 20, more=' font-weight="700"'), 34)
        for place, (name, purpose) in enumerate(of_floor.items()):
            x = EDGE + place % COLUMNS * (width + GAP)
            room = box(sheet.y, HEIGHT, x, width) + words(x + 12, sheet.y + 26, name, 19, more=' font-weight="600"')
            last = place % COLUMNS == COLUMNS - 1 or place == len(of_floor) - 1
            sheet.add(room + words(x + 12, sheet.y + 50, purpose, 17, MUTED), (HEIGHT + GAP) * last)
        sheet.y += EDGE - GAP
    return sheet.svg()


if __name__ == "__main__":
    FIGURE.write_text(rooms(), encoding="utf-8")
