"""How many examples the properties are tried on."""

from __future__ import annotations

import importlib
import os

from hypothesis import HealthCheck, settings

# Hypothesis imports these when an example asks for them, in the midst of a model's frames. There the parser of Python
# 3.11 may lose count of its depth ("AST constructor recursion depth mismatch") when pytest rewrites what is imported.
for part in ("optimiser", "pareto", "shrinker"):
    importlib.import_module(f"hypothesis.internal.conjecture.{part}")

# On a shared machine an example may take long for no reason of its own.
settings.register_profile(
    "default", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# The same examples in every run: what fails in CI fails at home.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
# For a loop of a minute: what is wrong in one example of a hundred is found by `make test`.
settings.register_profile("quick", settings.get_profile("ci"), max_examples=25)
settings.register_profile("long", settings.get_profile("ci"), max_examples=300)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "default")
)
