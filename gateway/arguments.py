"""The command line's arguments, read by argparse; what is wrong with them is told without repeating them."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

# What argparse says that quotes nothing of what was typed, and our own words for a value that is none.
_QUOTES_NOTHING = re.compile(
    r"the following arguments are required: .*|argument \S+: (?:must .*|expected (?:one|at least one) argument)"
)
_CHOICES = re.compile(r"\(choose from [^()]*\)\Z")


class ArgumentParser(argparse.ArgumentParser):
    """One whose messages repeat no argument: a URL with its password, or an API key, may be among them."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and end with exit code 2."""
        if not _QUOTES_NOTHING.fullmatch(message):
            choices = _CHOICES.search(message)
            known = f" {choices[0]}" if choices else ""
            message = (
                f"an argument, not shown since it may be a secret, is not known or not allowed here{known}"
            )
        super().error(message)
