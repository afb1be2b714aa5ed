"""The settings as the documentation shows them."""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.config import reference
from gateway.config.settings import VARIABLES

ROOT = Path(__file__).parents[4]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_one_page_has_the_table_as_it_is_declared() -> None:
    """Run ``make fmt`` when this fails."""
    (page,) = [path for path in PAGES if reference.BEGIN in written(path)]
    assert reference.table() in written(page)
    assert reference.with_table(written(page)) == written(page)


def test_env_example_is_as_it_is_declared() -> None:
    """Run ``make fmt`` when this fails."""
    example = written(ROOT / ".env.example")
    assert reference.BEGIN_EXAMPLE in example
    assert reference.with_settings(example) == example


def test_env_example_says_in_plain_text_where_to_look() -> None:
    """A reader of the file sees no Markdown."""
    example = written(ROOT / ".env.example")
    assert "](" not in example
    assert "the options of TLS (docs/operating.md#tls)" in example


def test_the_table_has_a_row_of_three_cells_for_each_setting() -> None:
    """Name, default, meaning; no meaning breaks the table."""
    head, _, *rows = [line.strip("| ").split(" | ") for line in reference.table().splitlines()]
    assert head == ["variable", "default", "meaning"]
    assert rows == [
        [f"`{one.name}`", "–" if one.default is None else f"`{one.default}`", one.meaning]
        for one in VARIABLES.values()
    ]


def test_a_page_without_the_markers_is_left_alone() -> None:
    """So is one whose last marker has gone: better stale than cut off."""
    for page in ("", "# Page\n", f"# Page\n\n{reference.BEGIN}\n\nMore.\n"):
        assert reference.with_table(page) == page


def test_what_the_example_sets_stays_set() -> None:
    """All the rest stands there commented out, with the default or what one could write."""
    example = reference.with_settings(
        f"A=1\n{reference.BEGIN_EXAMPLE}\n# Old words.\nSERVER_A_PORT=81\nGONE=2\n"
    )
    assert example.startswith(f"A=1\n{reference.BEGIN_EXAMPLE}\n\n# The name in")
    assert "# The port to listen on.\nSERVER_A_PORT=81\n\n" in example
    for line in (
        "#SERVER_A_HOST=0.0.0.0",
        "#RABBITMQ_SPOOL=var/spool.db",
        "#REDIS_URL=redis://127.0.0.1:6379/0",
    ):
        assert f"\n{line}\n" in example
    assert "GONE" not in example
    assert max(map(len, example.splitlines())) <= 120


def test_writing_brings_everything_up_to_date(tmp_path: Path) -> None:
    """As ``make fmt`` does; what is up to date is not touched."""
    (tmp_path / "docs" / "more").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Nothing here\n")
    page = tmp_path / "docs" / "more" / "configuration.md"
    page.write_text(f"# Settings\n\n{reference.BEGIN}\nold\n{reference.END}\n\nThe end.\n")
    shutil.copy(ROOT / ".env.example", tmp_path)
    before = (tmp_path / ".env.example").stat().st_mtime_ns
    reference.write(tmp_path)
    assert written(page) == (
        f"# Settings\n\n{reference.BEGIN}\n\n{reference.table()}\n{reference.END}\n\nThe end.\n"
    )
    assert written(tmp_path / "README.md") == "# Nothing here\n"
    assert (tmp_path / ".env.example").stat().st_mtime_ns == before
