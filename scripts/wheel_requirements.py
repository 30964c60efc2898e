"""The requirements of a wheel, without extras and without the packages named: for `pip install -r`.

python scripts/wheel_requirements.py WHEEL [--without NAME ...]

For wheels some of whose requirements have no build for this machine and are not needed for what it is used for.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from email.parser import Parser
from pathlib import Path


def requirements(wheel: Path, without: set[str]) -> list[str]:
    """Lines of ``Requires-Dist`` that hold without any extra, in their order."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
    return [line for line in lines if "extra ==" not in line and _name(line) not in without]


def _name(line: str) -> str:
    """The package that a requirement is of, as indexes spell it."""
    found = re.match(r"[A-Za-z0-9._-]+", line)
    return re.sub(r"[-_.]+", "-", found.group() if found else "").lower()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The requirements of a wheel, without extras")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args()
    print("\n".join(requirements(arguments.wheel, set(arguments.without))))
