"""Whether the certificates and keys can be used that the URLs name: read at the start, so that nobody waits in vain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.tls.settings import Tls


def judge(settings: Mapping[str, Iterable[Tls]], now_seconds: float) -> tuple[list[str], list[str]]:
    """The mistakes and the warnings, each beginning with the variable that has the settings.

    What is wrong with one is said once, however many nodes share it. ``now_seconds`` is Unix time.
    """
    mistakes: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for name, found in settings.items():
        for tls in found:
            wrong = tls.mistakes()
            mistakes.update(dict.fromkeys(f"{name}: {mistake}" for mistake in wrong))
            if not wrong:
                warnings.update(dict.fromkeys(f"{name}: {one}" for one in tls.warnings(now_seconds)))
    return [*mistakes], [*warnings]
