"""A process of its own that asks math-verify whether two answers are equal: one JSON line in, one out.

Run as a script, without importing the rest of the package, so that it starts quickly. It lives as long as its standard
input is open. Symbolic algebra may loop for ever or allocate without bound, even inside a C call that no Python
exception reaches: so the alarm keeps its default action, which ends the process, and its memory is capped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

#: Seconds after the caller's own limit, so that an abandoned worker ends by itself.
_GRACE = 1.0
#: Bytes of address space.
_MEMORY = 4 << 30
#: math-verify's own limits raise exceptions, which compiled code does not see.
_NO_LIMIT = 0


def _cap_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    # The LaTeX reader wants an environment, the expression reader plain text.
    bare = text.strip("$ ")
    return parse(f"${bare}$", parsing_timeout=_NO_LIMIT) or parse(bare, parsing_timeout=_NO_LIMIT)


def judge(gold: str, answer: str, symmetric: bool) -> bool:
    """Whether math-verify finds the answer equal to the gold one; ``symmetric`` asks in both orders."""
    from math_verify import verify

    parsed_gold, parsed_answer = _parse(gold), _parse(answer)
    if not parsed_gold or not parsed_answer:
        return False
    if verify(parsed_gold, parsed_answer, timeout_seconds=_NO_LIMIT):
        return True
    return symmetric and verify(parsed_answer, parsed_gold, timeout_seconds=_NO_LIMIT)


def main() -> None:
    """Answer requests until standard input closes."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not look like a reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle
    _cap_memory()
    judge("1", "x", symmetric=False)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _set_alarm(request["time_limit"] + _GRACE)
        verdict = judge(request["gold"], request["answer"], request["symmetric"])
        _set_alarm(0)
        print(json.dumps({"verdict": verdict}), file=replies, flush=True)


if __name__ == "__main__":
    main()
