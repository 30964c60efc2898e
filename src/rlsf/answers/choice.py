r"""The chosen option of a multiple-choice question.

An upper-case letter may as well be the article "A" or the pronoun "I", so a letter counts only in a form that writers
of answers use. The forms are tried from the most to the least explicit, and the first that occurs decides:

1. announced: "answer is B", "Answer: (b)", "correct option is **B**", ``\boxed{B}``, "B is the correct answer", or an
   option's own text after such words;
2. a letter by itself: "(B)", "[B]", "option B", "B)", "B." or "B:" at the start of a line, alone on a line, or at the
   end of the text, unless "not" stands right before it;
3. an option's own text anywhere.

Options that are numbers match every notation of theirs ("1,200" for "1200").
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from functools import lru_cache

from rlsf.answers.finding import Occurrence
from rlsf.answers.number import canonical_number, find_numbers
from rlsf.errors import InputError

#: Letters accepted where a question's options are not known.
_UNKNOWN_OPTIONS = 10

_ANNOUNCEMENT = re.compile(
    r"""
    (?: (?<!/)\b(?:answer|(?:correct|right|best)\s+(?:choice|option|one|letter))\b
        (?:(?!\bnot\b|n['’]t\b|\bnever\b|\bcannot\b)[^.\n:=>]){0,40}?
        (?:\b(?:is|are|be)\b|[:=>])
      | \b(?:choose|pick|select)\b
      | \\boxed\{
    )
    [\s:*_"'`“‘$]*
    (?:(?:option|choice|letter|the)\b[\s*_"'`“‘$]*)*
    (?:\\(?:text|textbf|mathrm|mathbf|boxed)\{)*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ANNOUNCED_LETTER = re.compile(
    r"""
    [(\[]?\s*
    (?: (?P<upper>[A-Z])(?!\w|['’-]\w)
        # "A" and "I" followed by a word are words themselves.
        (?:(?<![AI])|(?![^\S\n]+(?!(?:because|since|as|for|and|which|that|or)\b)[a-z0-9]))
      | (?P<lower>[a-z])(?:(?=[)\].])|(?<![ai])(?=\s*\Z))
    )
    """,
    re.VERBOSE,
)
_PRAISED_LETTER = re.compile(
    r"""
    (?<![\w'’])(?<!\bnor\ )(?P<praised>[A-Z])[)\].:]?[\s*_]*
    \b(?:is|would\s+be)\s+(?:(?!not\b|never\b)\w+\s+)?the\s+(?:correct|right|best)\s+(?:answer|option|choice)\b
    """,
    re.VERBOSE,
)
_LONE_LETTER = re.compile(
    r"""
      [(\[](?P<bracketed>[A-Za-z])[)\]]
    | \b[Oo]ption\s+(?P<option>[A-HJ-Z])\b
    | \b[Cc]hoice\s+(?P<choice>[A-HJ-Z])\b
    | ^[^\w\n(\[]*(?P<listed>[A-Z])[.):](?=[\s*]|\Z)
    | ^[^\w\n]*(?P<alone>[A-Z])[^\w\n]*$
    | (?<![\w'’])(?P<last>[A-Z])\W*\Z
    """,
    re.VERBOSE | re.MULTILINE,
)
_DENIED = re.compile(r"(?:\bnot|n['’]t)[^\S\n]+[^\w\s]*\Z", re.IGNORECASE)
_BEFORE_AN_ANNOUNCED_OPTION = re.compile(r"(?:(?:an?|the|about)\s+)?[^\w\n]{0,3}", re.IGNORECASE)


def option_letters(choices: Sequence[str]) -> str:
    """The letters of the options, A, B, C...; the first ten where no options are given.

    Raises ``InputError`` for more options than the alphabet has letters.
    """
    if len(choices) > len(string.ascii_uppercase):
        raise InputError(f"{len(choices)} choices for one question: letters end at {len(string.ascii_uppercase)}")
    return string.ascii_uppercase[: len(choices) or _UNKNOWN_OPTIONS]


def find_choices(text: str, choices: Sequence[str] = ()) -> list[Occurrence]:
    """Every naming of an option in the most explicit form that occurs, from left to right, as upper-case letters."""
    letters = option_letters(choices)
    options = find_options(text, choices)
    return _announced(text, letters, options) or _lone_letters(text, letters) or options


def find_options(text: str, choices: Sequence[str]) -> list[Occurrence]:
    """Every option's own text, in any case, as the option's letter; where options overlap, the longer one."""
    pattern, letter_of_number = _option_texts(tuple(choices))
    found = [
        Occurrence(string.ascii_uppercase[int((match.lastgroup or "")[1:])], match.start(), match.end())
        for match in (pattern.finditer(text) if pattern else ())
    ]
    if letter_of_number:
        found += [
            Occurrence(letter_of_number[number.answer], number.start, number.end)
            for number in find_numbers(text)
            if number.answer in letter_of_number
        ]
    return sorted(found, key=lambda occurrence: occurrence.start)


@lru_cache(maxsize=4096)
def _option_texts(choices: tuple[str, ...]) -> tuple[re.Pattern[str] | None, dict[str, str]]:
    """A pattern of the options that are words, a named group each, and the letters of those that are numbers."""
    patterns: dict[str, str] = {}
    letter_of_number: dict[str, str] = {}
    for index, choice in enumerate(choices):
        words = choice.strip().rstrip(".").split()
        number = canonical_number(choice)
        if number is not None:
            letter_of_number.setdefault(number, string.ascii_uppercase[index])
        elif len("".join(words)) > 1:
            before, after = (r"\b" if edge.isalnum() else "" for edge in (words[0][0], words[-1][-1]))
            patterns[f"o{index}"] = before + r"\s+".join(map(re.escape, words)) + after
    longest_first = sorted(patterns.items(), key=lambda item: -len(item[1]))
    joined = "|".join(f"(?P<{name}>{pattern})" for name, pattern in longest_first)
    return re.compile(joined, re.IGNORECASE) if joined else None, letter_of_number


def announced_letter(text: str, position: int, letters: str) -> Occurrence | None:
    """The letter that follows an announcement which ends at ``position``."""
    match = _ANNOUNCED_LETTER.match(text, position)
    return next(_letters(match, letters), None) if match else None


def _announced(text: str, letters: str, options: Sequence[Occurrence]) -> list[Occurrence]:
    found = [letter for match in _PRAISED_LETTER.finditer(text) for letter in _letters(match, letters)]
    for announcement in _ANNOUNCEMENT.finditer(text):
        end = announcement.end()
        lead = _BEFORE_AN_ANNOUNCED_OPTION.match(text, end)
        starts = {end, lead.end() if lead else end}
        option = next((option for option in options if option.start in starts), None)
        named = option or announced_letter(text, end, letters)
        if named is not None:
            found.append(named)
    return sorted(found, key=lambda occurrence: occurrence.start)


def _lone_letters(text: str, letters: str) -> list[Occurrence]:
    return [
        letter
        for match in _LONE_LETTER.finditer(text)
        if not _DENIED.search(text, max(0, match.start() - 10), match.start())
        for letter in _letters(match, letters)
    ]


def _letters(match: re.Match[str], letters: str) -> Iterator[Occurrence]:
    """The letter of the named group that matched, provided that an option has it."""
    letter = (match[match.lastgroup or 0]).upper()
    if letter in letters:
        yield Occurrence(letter, match.start(match.lastgroup or 0), match.end(match.lastgroup or 0))
