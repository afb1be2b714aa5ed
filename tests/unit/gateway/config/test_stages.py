"""What is configured of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import stages
from gateway.config.settings import VARIABLES
from gateway.config.sources import Sources
from gateway.config.stages import ConfiguredStages
from pipeline.order import DEFAULT_ORDER


def read(tmp_path: Path, text: str = "", **environ: str) -> tuple[ConfiguredStages, Sources]:
    path = tmp_path / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    sources = Sources({"GATEWAY_CONFIG": str(path), **environ})
    return stages.read(sources, VARIABLES["pipeline"]), sources


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('pipeline = ["auth", "idempotency", "validation"]', {}),
        ("", {"PIPELINE": " auth, idempotency,validation ,"}),
    ],
)
def test_the_order_is_the_literal_list(text: str, environ: dict[str, str], tmp_path: Path) -> None:
    """From the file or from the environment; blanks and a last comma mean nothing."""
    found, sources = read(tmp_path, text, **environ)
    assert found.pipeline == ("auth", "idempotency", "validation")
    assert sources.mistakes == []


def test_nothing_written_is_the_default_order(tmp_path: Path) -> None:
    """Without options and without warnings."""
    found, sources = read(tmp_path)
    assert found == ConfiguredStages(DEFAULT_ORDER, {}, {})
    assert (sources.mistakes, sources.warnings) == ([], [])


def test_a_disabled_stage_has_a_reason_and_no_effect(tmp_path: Path) -> None:
    """It is not in the pipeline; what its absence gives up is told as a warning."""
    found, sources = read(
        tmp_path, '[stage.idempotency]\ndisabled = "senders have no keys"\non_store_error = "x"\n'
    )
    assert "idempotency" not in found.pipeline
    assert found.disabled == {"idempotency": "senders have no keys"}
    assert found.options == {"idempotency": {"on_store_error": "x"}}
    assert sources.warnings == ["there is no 'idempotency': a retry may send twice"]


@pytest.mark.parametrize(
    ("text", "environ", "source"),
    [
        ('pipeline = ["auth", "auth", "validation"]', {}, "pipeline in the file of GATEWAY_CONFIG"),
        ("", {"PIPELINE": "auth,auth,validation"}, "PIPELINE"),
        (
            '[stage.quota]\ndisabled = "x"',
            {"PIPELINE": "auth,auth,quota,validation"},
            "PIPELINE, without the disabled 'quota'",
        ),
        ('[stage.auth]\ndisabled = "x"', {}, "the default order, without the disabled 'auth'"),
    ],
)
def test_a_mistake_in_the_order_says_where_the_order_stands(
    text: str, environ: dict[str, str], source: str, tmp_path: Path
) -> None:
    """Nobody looks for a variable that was never set, or for a stage that the order does have."""
    _, sources = read(tmp_path, text, **environ)
    assert sources.mistakes
    assert {mistake.partition(": stage ")[0] for mistake in sources.mistakes} == {source}
