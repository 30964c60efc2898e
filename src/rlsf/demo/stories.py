"""English for arithmetic: who has what, what happens to it, and the question at the end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from rlsf.demo.problems import Arithmetic, Holding

NAMES = (
    *("Sam", "Ann", "Ben", "Mia", "Tom", "Eva", "Leo", "Zoe", "Max", "Ida", "Jack", "Lily"),
    *("Omar", "Nina", "Paul", "Ruth", "Carl", "Vera", "Hugo", "Emma", "Ravi", "Kate", "Finn", "Rosa"),
)
THINGS = (
    *("apples", "marbles", "stamps", "cards", "coins", "books", "pens", "shells", "stickers", "eggs"),
    *("beads", "roses", "nuts", "plums", "cakes", "keys"),
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """Sentences of one setting. ``{n}`` is the quantity; gains and losses follow the name of the subject."""

    openings: tuple[str, ...]
    gains: tuple[str, ...]
    losses: tuple[str, ...]
    questions: tuple[str, ...]
    subject: str = "{name}"
    places: tuple[str, ...] = ("",)


_OWNING = _Scene(
    openings=("{name} has {n} {thing}.", "{name} starts with {n} {thing}.", "At first {name} has {n} {thing}."),
    gains=("buys {n} more", "finds {n} more", "gets {n} from {friend}", "wins {n} {thing}"),
    losses=("loses {n}", "gives {n} to {friend}", "sells {n} {thing}", "gives away {n}"),
    questions=(
        "How many {thing} does {name} have now?",
        "How many {thing} are left?",
        "What number of {thing} does {name} have at the end?",
    ),
)
_SCENES = (
    _OWNING,
    _OWNING,
    _Scene(
        openings=("A {place} leaves with {n} people on board.", "There are {n} people on a {place}."),
        gains=("{n} people get on", "{n} more people get on"),
        losses=("{n} people get off", "{n} of them get off"),
        questions=("How many people are on the {place} now?", "How many people are still on board?"),
        subject="",
        places=("bus", "train", "boat"),
    ),
    _Scene(
        openings=("There are {n} {thing} in a {place}.", "A {place} holds {n} {thing}."),
        gains=("puts in {n} more", "adds {n} {thing}"),
        losses=("takes out {n}", "removes {n} {thing}"),
        questions=("How many {thing} are in the {place} now?", "How many {thing} does the {place} hold now?"),
        places=("box", "bag", "basket", "drawer"),
    ),
    _Scene(
        openings=("{name} has {n} dollars.", "{name} has saved {n} dollars."),
        gains=("earns {n} dollars", "is given {n} dollars"),
        losses=("spends {n} dollars", "pays {n} dollars for a {place}"),
        questions=("How many dollars does {name} have now?", "How much money is left?"),
        places=("game", "book", "hat"),
    ),
    _Scene(
        openings=("In a game {name} has {n} points.", "{name} begins a game with {n} points."),
        gains=("wins {n} points", "scores {n} more"),
        losses=("loses {n} points", "drops {n} points"),
        questions=("How many points does {name} have now?", "What is the number of points at the end?"),
    ),
)
_PACKING = (
    "{name} packs {groups} boxes with {n} {thing} each.",
    "{name} fills {groups} bags with {n} {thing} each.",
    "{name} has {groups} rows of {n} {thing}.",
)
_LINKS = ("", "", "Then ", "Next ", "Later ", "After that ")


@dataclass(frozen=True, slots=True)
class Story:
    """A question in words. ``names`` say who or what the holdings of the problem belong to, in order."""

    question: str
    names: tuple[str, ...]


def _sentence(clause: str, link: str) -> str:
    text = f"{link}{clause}."
    return text[0].upper() + text[1:]


def _happenings(scene: _Scene, holding: Holding, words: dict[str, str], rng: random.Random, skip: int = 0) -> list[str]:
    sentences: list[str] = []
    subject = scene.subject.format(**words)
    last = len(holding.changes) - 1
    joined = ""
    for position, (operator, quantity) in enumerate(holding.changes):
        if position < skip:
            continue
        clause = rng.choice(scene.gains if operator == "+" else scene.losses).format(n=quantity, **words)
        joined = f"{joined} and {clause}" if joined else f"{subject} {clause}".strip()
        if position < last and " and " not in joined and rng.random() < 0.25:
            continue
        sentences.append(_sentence(joined, rng.choice(_LINKS)))
        joined = ""
    return sentences


def _tell_one(holding: Holding, rng: random.Random) -> Story:
    name, friend = rng.sample(NAMES, 2)
    packed = bool(holding.changes) and holding.changes[0][0] == "*"
    scene = _OWNING if packed else rng.choice(_SCENES)
    words = {"name": name, "friend": friend, "thing": rng.choice(THINGS), "place": rng.choice(scene.places)}
    if packed:
        opening = rng.choice(_PACKING).format(groups=holding.start, n=holding.changes[0][1], **words)
    else:
        opening = rng.choice(scene.openings).format(n=holding.start, **words)
    sentences = [opening, *_happenings(scene, holding, words, rng, skip=int(packed))]
    owner = name if "{name}" in scene.openings[0] else words["place"].capitalize()
    return Story(" ".join([*sentences, rng.choice(scene.questions).format(**words)]), (owner,))


def _tell_many(arithmetic: Arithmetic, rng: random.Random) -> Story:
    *names, friend = rng.sample(NAMES, len(arithmetic.holdings) + 1)
    thing = rng.choice(THINGS)
    sentences = []
    for name, holding in zip(names, arithmetic.holdings, strict=True):
        words = {"name": name, "friend": friend, "thing": thing}
        clauses = [f"{name} has {holding.start} {thing}"]
        for operator, quantity in holding.changes:
            clauses.append(rng.choice(_OWNING.gains if operator == "+" else _OWNING.losses).format(n=quantity, **words))
        sentences.append(" and ".join(clauses) + ".")
    questions = {
        "together": (f"How many {thing} do {names[0]} and {names[1]} have together?", "How many do they have in all?"),
        "difference": (f"How many more {thing} does {names[0]} have than {names[1]}?",),
        "most": (f"Who has the most {thing}?", f"Who ends up with the most {thing}?"),
        "fewest": (f"Who has the fewest {thing}?", f"Who ends up with the fewest {thing}?"),
    }[arithmetic.goal]
    return Story(" ".join([*sentences, rng.choice(questions)]), tuple(names))


def tell(arithmetic: Arithmetic, rng: random.Random) -> Story:
    """The problem as an English question, every quantity written in digits."""
    if arithmetic.goal == "value":
        return _tell_one(arithmetic.holdings[0], rng)
    return _tell_many(arithmetic, rng)
