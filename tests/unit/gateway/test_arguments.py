"""The arguments of the command line."""

from __future__ import annotations

import argparse

import pytest

from gateway.arguments import ArgumentParser


def at_least_two(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("must be 2 or more")
    return int(text)


@pytest.fixture
def parser() -> ArgumentParser:
    found = ArgumentParser(prog="acme")
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("go")
    command.add_argument("--far", type=at_least_two)
    command.add_argument("--fast", action="store_true")
    command.add_argument("place")
    return found


HIDDEN = "an argument, not shown since it may be a secret, is not known or not allowed here"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["go"], "the following arguments are required: place"),
        (["go", "x", "--far"], "argument --far: expected one argument"),
        (["go", "x", "--far", "1"], "argument --far: must be 2 or more"),
        (["go", "x", "s3cr3t"], HIDDEN),
        (["go", "x", "--s3cr3t"], HIDDEN),
        (["go", "x", "--fa=s3cr3t"], HIDDEN),
        (["go", "x", "--fast=s3cr3t"], HIDDEN),
        (["go", "x", "--far=s3cr3t"], HIDDEN),
    ],
    ids=str,
)
def test_a_mistake_is_told_without_what_was_typed(
    arguments: list[str], told: str, parser: ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below the usage, and with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: acme")
    assert printed.endswith(f"error: {told}\n")


def test_what_there_is_to_choose_from_is_told(
    parser: ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    """By argparse's own list, of which the words differ from Python to Python."""
    with pytest.raises(SystemExit):
        parser.parse_args(["s3cr3t (choose from s3cr3t)"])
    printed = capsys.readouterr().err
    assert "s3cr3t" not in printed
    assert printed.splitlines()[-1].replace("'", "") == f"acme: error: {HIDDEN} (choose from go)"
