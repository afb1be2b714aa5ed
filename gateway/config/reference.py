"""The settings as the documentation shows them: their table, and ``.env.example``.

``python -m gateway.config.reference``, or ``make fmt``, writes both anew from the declarations in ``settings``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from gateway.config.settings import VARIABLES
from gateway.config.variables import Variable

BEGIN = "<!-- The settings, as gateway/config/settings.py declares them; `make fmt` writes this table. -->"
END = "<!-- The end of the settings. -->"
BEGIN_EXAMPLE = "# The settings, as gateway/config/settings.py declares them; `make fmt` keeps what is set."

_WIDTH = 120

# Links lead from a page in docs/; in a file of plain text they say where to look.
_LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")


def table() -> str:
    """The table of all settings, in Markdown."""
    rows = [
        f"| `{one.name}` | {'–' if one.default is None else f'`{one.default}`'} | {one.meaning} |\n"
        for one in VARIABLES.values()
    ]
    return "".join(["| variable | default | meaning |\n", "|---|---|---|\n", *rows])


def with_table(page: str) -> str:
    """A page of the documentation with the table between its markers, where it has them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n\n{table()}\n{end}{after}" if end else page


def with_settings(example: str) -> str:
    """``.env.example`` with all settings behind its marker; what it sets stays set, and the rest is commented out."""
    before, begin, rest = example.partition(BEGIN_EXAMPLE)
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", rest, re.MULTILINE))
    return f"{before}{begin}\n" + "".join(f"\n{_lines(one, values)}" for one in VARIABLES.values())


def write(root: Path) -> None:
    """Write whatever is not up to date in the repository at ``root``."""
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        _rewrite(path, with_table)
    _rewrite(root / ".env.example", with_settings)


def _lines(variable: Variable, values: dict[str, str]) -> str:
    meaning = _LINK.sub(r"\1 (docs/\2)", variable.meaning).replace("`", "")
    said = textwrap.fill(
        f"{meaning[0].upper()}{meaning[1:]}.",
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    if variable.name in values:
        return f"{said}\n{variable.name}={values[variable.name]}\n"
    shown = variable.example if variable.default is None else variable.default
    return f"{said}\n#{variable.name}={shown}\n"


def _rewrite(path: Path, up_to_date: Callable[[str], str]) -> None:
    written = path.read_text(encoding="utf-8")
    if up_to_date(written) != written:
        path.write_text(up_to_date(written), encoding="utf-8")


if __name__ == "__main__":
    write(Path.cwd())
