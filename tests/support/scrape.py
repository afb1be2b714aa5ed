"""A gateway's metrics as Prometheus reads them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateways import Gateway

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(gateway: Gateway) -> Samples:
    """Every sample of a scrape by its name and labels."""
    families: Any = text_string_to_metric_families(gateway.http.get("/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(gateway: Gateway, name: str, **labels: str) -> float:
    """One sample of a scrape; 0 while there is none."""
    return samples(gateway).get((name, tuple(sorted(labels.items()))), 0)
