"""A Redis whose primary changes: Sentinels watch over it, and every new connection asks them where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from gateway.redis.address import Address

_ANSWER_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """The primary ``name`` that the ``sentinels`` watch over; ``server`` says how it is opened, wherever it is."""

    name: str
    sentinels: Sequence[Address]
    server: Address

    def __str__(self) -> str:
        """``NAME of HOST:PORT,HOST:PORT``."""
        return f"{self.name} of {','.join(map(str, self.sentinels))}"

    async def find(self) -> Address:
        """Where the primary is now, by the highest configuration epoch. Raises ``ConnectionError`` when none knows.

        All Sentinels are asked at once: one that is cut off from the others may still hold an old primary for the
        present one.
        """
        heard = await asyncio.gather(*map(self._ask, self.sentinels))
        known = [answer for answer in heard if not isinstance(answer, str)]
        if not known:
            reasons = "; ".join(dict.fromkeys(map(str, heard)))
            raise Disconnected(
                f"no Sentinel says where the primary '{self.name}' is: {reasons}. Check the name, and that they run"
            )
        _, host, port = max(known)
        return self.server.at(host, port)

    def without_secret(self, text: str) -> str:
        """``text`` without any password."""
        return self.server.without_secret(self.sentinels[0].without_secret(text))

    async def _ask(self, sentinel: Address) -> tuple[int, str, int] | str:
        """The primary's host and port after how recent they are; or why they are not known."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                place, described = await sentinel.ask(
                    ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name), ("SENTINEL", "MASTER", self.name)
                )
        except TimeoutError:
            return f"no answer from {sentinel} within {_ANSWER_SECONDS:g} s"
        except RedisError as error:
            return f"{sentinel}: {error}"
        fields = dict(zip(described[::2], described[1::2], strict=True))
        # In the middle of a fail-over the new primary is named, but neither described nor counted yet.
        is_newer = place != [fields[b"ip"], fields[b"port"]]
        host, port = place
        return int(fields[b"config-epoch"]) + is_newer, host.decode(), int(port)
