r"""Numbers in running text, as English writes them.

Recognised: ``5``, ``-5``, ``−5``, ``1,234``, ``1{,}234``, ``3.5``, ``.5``, ``3/4``, ``1 1/2``, ``\frac{3}{4}``,
``\frac34``, ``2.5e3``; a currency sign before and a percent sign or unit after are not part of the number. A minus is
a sign unless it follows a value ("10-5" ends in 5), a comma separates thousands only between groups of three digits
("3, 4" and "1,2345" hold two numbers each), and a full stop that ends a sentence is not part. Digits that belong to a
name (``x2``, ``H2O``) are no numbers. A minus may be typed as a hyphen, a minus sign or an en dash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlsf.answers.finding import Occurrence

_SEPARATOR = r"(?:,|\{,\}|,\\!|[\u00a0\u2009\u202f])"
_INTEGER = rf"(?:[0-9]{{1,3}}(?:{_SEPARATOR}[0-9]{{3}})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?=[0-9.\\$€£¥₹\-−–])  # where a number may begin, so that letters are passed over quickly
    (?P<sign>(?<![0-9A-Za-z_)\]}}%\-−–])[-−–])?
    (?P<currency>\\?[$€£¥₹]\ ?)?
    (?P<inner_sign>(?<=[$€£¥₹])[-−–])?
    (?P<value>
        (?<![0-9A-Za-z_])
        (?:
            (?:(?P<latex_whole>[0-9]{{1,9}})\ ?)?\\[dt]?frac
                (?: \{{(?P<top_sign>[-−–])?(?P<latex_top>[0-9]{{1,9}})\}}\{{(?P<latex_bottom>[1-9][0-9]{{,8}})\}}
                  | (?P<top_digit>[0-9])(?P<bottom_digit>[1-9])(?![0-9]) )
          | (?<!/)(?:(?P<whole>{_INTEGER})\ )?(?P<top>{_INTEGER})/(?P<bottom>0*[1-9][0-9]*)(?![0-9/]|\.[0-9])
          | (?P<integer>{_INTEGER})(?:\.(?P<decimals>[0-9]+))?
                (?:[eE](?P<exponent>[+-]?[0-9]{{1,2}})(?![0-9A-Za-z]|\.[0-9]))?
          | (?<![.)\]}}])\.(?P<only_decimals>[0-9]+)
        )
    )
    """,
    re.VERBOSE,
)
#: Digits that a part of a mixed number may have: Python refuses to convert texts of thousands of digits.
_LONGEST_PART = 100
_AFTER_A_VALUE = re.compile(r"[0-9)\]}%]\s+\Z")
_BEFORE_A_LONE_NUMBER = re.compile(r"[\s$€£¥₹\\+(]*")
_AFTER_A_LONE_NUMBER = re.compile(r"[\s$€£¥₹\\%.)]*")


def find_numbers(text: str) -> Iterator[Occurrence]:
    """Every number of a text from left to right, with its canonical form."""
    for match in _NUMBER.finditer(text):
        negative, start = _sign(match)
        if match["whole"] and not _is_mixed(match):
            yield Occurrence(_with_sign(negative, _plain(match["whole"])), start, match.end("whole"))
            yield Occurrence(_fraction("0", match["top"], match["bottom"]), match.start("top"), match.end())
        else:
            yield Occurrence(_with_sign(negative, _unsigned(match)), start, match.end())


def canonical_number(text: str) -> str | None:
    """The canonical form of a text that is one number and nothing else ("$1,234.50" is "1234.5"), or None.

    No thousands separators, currency or percent sign, plus, leading zeros or trailing decimal zeros; a fraction
    keeps its terms ("6/8").
    """
    found = list(find_numbers(text))
    if len(found) != 1:
        return None
    number = found[0]
    alone = _BEFORE_A_LONE_NUMBER.fullmatch(text, 0, number.start) and _AFTER_A_LONE_NUMBER.fullmatch(text, number.end)
    return number.answer if alone else None


def _sign(match: re.Match[str]) -> tuple[bool, int]:
    """Whether the number is negative and where it begins; a minus subtracts from a value before it ("10 -5")."""
    sign = "sign" if match["sign"] else "inner_sign"
    negative = match["top_sign"] is not None
    if match[sign] is None or _AFTER_A_VALUE.search(match.string, max(0, match.start() - 8), match.start()):
        return negative, match.start("value")
    return not negative, match.start(sign)


def _is_mixed(match: re.Match[str]) -> bool:
    whole, top, bottom = (_plain(match[part]) for part in ("whole", "top", "bottom"))
    return (len(top), top) < (len(bottom), bottom) and max(len(whole), len(bottom)) <= _LONGEST_PART


def _unsigned(match: re.Match[str]) -> str:
    latex_top, latex_bottom = match["latex_top"] or match["top_digit"], match["latex_bottom"] or match["bottom_digit"]
    if latex_bottom:
        return _fraction(match["latex_whole"] or "0", latex_top, latex_bottom)
    if match["bottom"]:
        return _fraction(match["whole"] or "0", match["top"], match["bottom"])
    if match["only_decimals"]:
        return _decimal("0", match["only_decimals"], 0)
    return _decimal(_plain(match["integer"]), match["decimals"] or "", int(match["exponent"] or 0))


def _plain(integer: str) -> str:
    return re.sub(r"[^0-9]", "", integer).lstrip("0") or "0"


def _fraction(whole: str, top: str, bottom: str) -> str:
    whole, top, bottom = _plain(whole), _plain(top), _plain(bottom)
    if whole != "0":
        top = str(int(whole) * int(bottom) + int(top))
    return top if bottom == "1" else f"{top}/{bottom}"


def _decimal(integer: str, decimals: str, exponent: int) -> str:
    if exponent >= 0:
        decimals = decimals.ljust(exponent, "0")
        integer, decimals = integer + decimals[:exponent], decimals[exponent:]
    else:
        integer = integer.rjust(-exponent + 1, "0")
        integer, decimals = integer[:exponent], integer[exponent:] + decimals
    decimals = decimals.rstrip("0")
    return _plain(integer) + (f".{decimals}" if decimals else "")


def _with_sign(negative: bool, number: str) -> str:
    return f"-{number}" if negative and number != "0" else number
