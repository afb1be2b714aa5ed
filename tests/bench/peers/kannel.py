"""Kannel, started as its user's guide and Debian's init script say: bearerbox, smsbox, and its fake SMSC."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import httpx

from tests.bench.cases import TEXT
from tests.bench.peers.peer import INSTALL, NAME, PASSWORD, SENDER, PeerMissing
from tests.bench.wrk import Load
from tests.support.gateways import NUMBER
from tests.support.servers import HOST, Server, accepts, free_port

# Debian's package of extras keeps it among Kannel's own tests.
_FAKE_SMSC = Path("/usr/lib/kannel/test/fakesmsc")
_SETTLE_SECONDS = 10.0

# The smallest configuration of the user's guide: "log-level = 1" is what its examples have.
_CONFIGURATION = """\
group = core
admin-port = {admin}
admin-interface = {host}
admin-password = {password}
smsbox-port = {boxes}
smsbox-interface = {host}
box-deny-ip = "*.*.*.*"
box-allow-ip = {host}
log-file = {folder}/bearerbox.log
log-level = 1
{store}
group = smsc
smsc = fake
smsc-id = fake
port = {smsc}
connect-allow-ip = {host}

group = smsbox
bearerbox-host = {host}
sendsms-port = {port}
sendsms-interface = {host}
log-file = {folder}/smsbox.log
log-level = 1

group = sendsms-user
username = {name}
password = {password}
"""
_STORE = """\
store-type = file
store-location = {folder}/messages.store
"""


class Kannel(Server):
    """One bearerbox with one smsbox; the fake SMSC that takes their messages is no part of it.

    With ``keeps_file`` what is accepted is written to a file before the answer, else it is in memory alone.
    """

    accepted_status = 202
    servers: Sequence[int] = ()

    def __init__(self, *, keeps_file: bool) -> None:
        self._bearerbox = _program("bearerbox")
        self._smsbox = _program("smsbox")
        if not _FAKE_SMSC.exists():
            raise PeerMissing(f"Kannel's fakesmsc is not installed: {INSTALL}")
        super().__init__()
        self._keeps_file = keeps_file
        self._admin, self._boxes, self._smsc = free_port(), free_port(), free_port()
        self._taken = 0

    @property
    def url(self) -> str:
        """Where smsbox takes messages by HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def load(self) -> Load:
        """The send of the user's guide: a GET with everything in its query."""
        query = {"username": NAME, "password": PASSWORD, "from": SENDER, "to": NUMBER, "text": TEXT}
        return Load({}, "", method="GET", path=f"/cgi-bin/sendsms?{urlencode(query)}")

    @property
    def pids(self) -> Sequence[int]:
        """The two boxes."""
        return [self.pid, self._processes["smsbox"].pid]

    def take(self, expected: int) -> int:
        """How many more its SMSC has taken, by the bearerbox's own count."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        sent, last = self._sent(), -1
        while (sent - self._taken < expected or sent != last) and time.monotonic() < deadline:
            time.sleep(0.3)
            sent, last = self._sent(), sent
        taken, self._taken = sent - self._taken, sent
        return taken

    def configuration(self) -> str:
        """What stands in its configuration file."""
        return _CONFIGURATION.format(
            host=HOST,
            port=self.port,
            admin=self._admin,
            boxes=self._boxes,
            smsc=self._smsc,
            folder=self.directory,
            name=NAME,
            password=PASSWORD,
            store=_STORE.format(folder=self.directory) if self._keeps_file else "",
        )

    def _launch(self) -> None:
        file = self.directory / "kannel.conf"
        file.write_text(self.configuration(), encoding="utf-8")
        # As Debian starts them: on the standard error only what is worse than a warning.
        self._spawn("server", [self._bearerbox, "-v", "4", "--", file])
        deadline = time.monotonic() + self.start_within_seconds
        # Neither of the others waits for it.
        while not (accepts(self._boxes) and accepts(self._smsc)) and self.is_running():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        self._spawn("smsbox", [self._smsbox, "-v", "4", "--", file])
        # Sends no message of its own, and takes all that come.
        self._spawn(
            "smsc", [_FAKE_SMSC, "-v", "4", "-H", HOST, "-r", str(self._smsc), "-m", "0", "1 2 text none"]
        )

    def _answers(self) -> bool:
        return accepts(self.port) and len(re.findall(r"on-?line", self._status())) == 2

    def _sent(self) -> int:
        found = re.search(r"^SMS: .*?sent (\d+)", self._status(), re.MULTILINE)
        return int(found[1]) if found else 0

    def _status(self) -> str:
        try:
            return httpx.get(
                f"http://{HOST}:{self._admin}/status.txt", params={"password": PASSWORD}, timeout=5
            ).text
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error


def version() -> str | None:
    """Of the installed Kannel, or None."""
    if (program := shutil.which("bearerbox")) is None:
        return None
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"version `([^']+)'", printed.stdout)
    return found[1] if found else "unknown"


def _program(name: str) -> str:
    if found := shutil.which(name):
        return found
    raise PeerMissing(f"Kannel's {name} is not installed: {INSTALL}")
