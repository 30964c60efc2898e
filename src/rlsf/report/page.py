"""What every page is made with: the templates and the files beside them."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlsf.report.format import count, number


def page_environment() -> Environment:
    """The templates; every text that enters them is escaped, and a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("rlsf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = number
    environment.filters["whole"] = count
    return environment


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return resources.files("rlsf.report").joinpath("templates", name).read_text(encoding="utf-8")
