"""The command line: serve, check, key, messages, forward.

Exit codes: 0 done, 1 a warning under ``--strict`` or a command that could not finish, 2 a mistake in the configuration
or on the command line.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.arguments import ArgumentParser
from gateway.config import api_keys, clients, settings
from gateway.config.parsers import EMBEDDED
from gateway.config.settings import ConfigurationError, Settings
from gateway.observability import logs, stdout
from pipeline import order
from pipeline.publish import Publish

OK, FAILED, MISTAKE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    stdout.hold_standard_descriptors()
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr: no terminal is too simple for what it is shown.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(printable(f"error: {mistake}"), file=sys.stderr)
        count = len(error.mistakes)
        print(
            f"{count} mistake{'s' if count > 1 else ''} in the configuration; nothing was started",
            file=sys.stderr,
        )
        return MISTAKE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="sms-gateway", description="The front door for a company's SMS.")
    parser.add_argument("--version", action="version", version=f"sms-gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve; the configuration comes from the environment")
    command.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes that share the port"
    )
    command.set_defaults(run=_serve)

    command = commands.add_parser("check", help="judge the configuration and show the effective pipeline")
    command.add_argument("--strict", action="store_true", help="exit 1 when there are warnings")
    command.set_defaults(run=_check)

    keys = commands.add_parser("key", help="API keys").add_subparsers(required=True, metavar="COMMAND")
    command = keys.add_parser("new", help="make a key for a client; it is shown once")
    command.add_argument("name", metavar="NAME", help="the client's name")
    command.set_defaults(run=_new_key)

    command = commands.add_parser("messages", help="show what waits in the embedded outbox")
    command.add_argument("--follow", action="store_true", help="go on with what arrives")
    command.add_argument("--full", action="store_true", help="show texts and whole numbers")
    command.set_defaults(run=_messages)

    command = commands.add_parser("forward", help="move what waits in the embedded outbox to RabbitMQ")
    command.add_argument(
        "--to", required=True, type=_amqp_url, metavar="URL", help="amqp://user:password@host/"
    )
    command.add_argument("--follow", action="store_true", help="go on with what arrives")
    command.set_defaults(run=_forward)
    return parser


def _serve(options: argparse.Namespace) -> int:
    configured = settings.load(settings.environment())
    log = logs.configure(configured.service_name, configured.log_level)
    _prepare_files(configured)
    from gateway.serve import CannotListen, serve

    try:
        return serve(configured, options.workers, log)
    except CannotListen as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        # No mistake in the configuration: who holds the port may be about to go.
        return FAILED


def _prepare_files(configured: Settings) -> None:
    """Open each file once: one of another program, or of a newer release, is told of before anything serves."""
    from gateway.embedded.database import Database
    from gateway.embedded.failures import NotDone, is_not_ours

    mistakes = []
    for name, url in (("REDIS_URL", configured.redis_url), ("RABBITMQ_URL", configured.rabbitmq_url)):
        if url.startswith(EMBEDDED):
            try:
                Database(url.removeprefix(EMBEDDED)).prepare()
            except NotDone as error:
                mistakes.append(f"{name}: {error}")
    if configured.spool is not None:
        try:
            Database(configured.spool).prepare()
        except NotDone as error:
            if is_not_ours(error.__cause__):  # With a disk that fails it serves: RabbitMQ has the messages.
                mistakes.append(f"RABBITMQ_SPOOL: {error}")
    if mistakes:
        raise ConfigurationError(mistakes)


def _check(options: argparse.Namespace) -> int:
    configured = settings.load(settings.environment())
    print(describe(configured))
    return FAILED if options.strict and configured.warnings else OK


def printable(line: str) -> str:
    """A line in which no configured name steers the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


def describe(configured: Settings) -> str:
    """What ``check`` prints of a valid configuration."""
    rows = [("stage", "needs", "provides")]
    rows += [
        (name, order.words(stage.needs), order.words(stage.provides))
        for name in configured.pipeline
        for stage in [order.find(name)]
    ]
    rows.append(("publish", order.words(Publish.needs), order.words(frozenset())))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["pipeline:"]
    lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"disabled: {name} ({reason})" for name, reason in configured.disabled.items()]
    lines += [
        f"clients: {len(configured.clients)}, fingerprint {configured.config_fingerprint.clients}",
        f"providers: {len(configured.providers.by_name)}, fingerprint {configured.config_fingerprint.providers}",
        *(f"warning: {warning}" for warning in configured.warnings),
        f"the configuration is valid; {len(configured.warnings)} warning{'' if len(configured.warnings) == 1 else 's'}",
    ]
    return "\n".join(map(printable, lines))


def _new_key(options: argparse.Namespace) -> int:
    mistake = clients.name_mistake(options.name)
    if mistake is not None:
        print(printable(f"error: NAME: {mistake}"), file=sys.stderr)
        return MISTAKE
    key, digest = api_keys.new()
    is_shown = _can_be_shown(options.name)
    entry = json.dumps(
        {digest: {"name": options.name, "is_active": True, "daily_quota": 1000}}, ensure_ascii=not is_shown
    )
    name = json.dumps(options.name, ensure_ascii=False)
    if not is_shown:  # TOML knows no surrogate pairs, as JSON has them beyond the first plane.
        name = "".join(one if one.isascii() else f"\\U{ord(one):08X}" for one in name)
    print(
        f"API key, shown this once; give it to the client and keep it nowhere:\n\n    {key}\n\n"
        "The entry for CLIENT_CONFIG, where only the key's digest stands:\n\n"
        f"    {entry}\n\n"
        "or for the TOML file of GATEWAY_CONFIG:\n\n"
        f'    [clients."{digest}"]\n    name = {name}\n    daily_quota = 1000\n'
    )
    return OK


def _can_be_shown(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _messages(options: argparse.Namespace) -> int:
    path = _embedded_path()
    from gateway.embedded.commands import show_messages

    return show_messages(path, follow=options.follow, full=options.full)


def _forward(options: argparse.Namespace) -> int:
    from gateway.backends import destination
    from gateway.embedded.commands import forward

    configured = settings.load(settings.environment())
    logs.configure(configured.service_name, configured.log_level)
    path = _embedded_path()
    try:
        to = destination(configured, options.to)
    except ValueError as error:
        print(printable(f"error: --to: {error}"), file=sys.stderr)
        return MISTAKE
    return forward(path, to, follow=options.follow)


def _embedded_path() -> str:
    url = settings.environment().get("RABBITMQ_URL", "")
    if not url.startswith(EMBEDDED):
        raise ConfigurationError(
            [f"RABBITMQ_URL: names no embedded outbox: write RABBITMQ_URL={EMBEDDED}PATH of its file"]
        )
    return url.removeprefix(EMBEDDED)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 256")
    return int(text)


def _amqp_url(text: str) -> str:
    if not text.startswith(("amqp://", "amqps://")):
        raise argparse.ArgumentTypeError("must begin with amqp:// or amqps://")
    return text


if __name__ == "__main__":
    sys.exit(main())
