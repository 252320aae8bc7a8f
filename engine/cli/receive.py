"""`receive`: a local API that counts what arrives."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import click

from engine.cli.say import say, say_json
from engine.demo import faults
from engine.demo.receiver import Receiver
from engine.runtime import signals

EPILOG = """\b
Examples:
  syncledger receive --port 8900        then API_BASE_URL=http://127.0.0.1:8900
  syncledger receive --script faults.yaml
  curl http://127.0.0.1:8900/                 what arrived so far
"""


@click.command(epilog=EPILOG)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8900,
    show_default=True,
    help="The loopback port; 0 takes a free one.",
)
@click.option("--id", "id_field", default="Id", show_default=True, help="The field that names a record.")
@click.option(
    "--script",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A YAML file of faults: what each call of each path meets (docs/faults.md).",
)
def receive(port: int, id_field: str, script: Path | None) -> int:
    """Accept every batch on the loopback address and count records by ID, until SIGINT or SIGTERM.

    With a script it misbehaves as real APIs do: wrong statuses, slow and broken answers, rejected records.
    """
    try:
        server = Receiver(port, id_field, faults.load(script) if script else None)
    except OSError as failure:
        raise click.ClickException(
            f"port {port} cannot be used: {failure.strerror}; --port 0 takes a free one"
        ) from failure
    say(f"receiving on {server.url}")
    with signals.cancel_on_signals(lambda: os._exit(130)) as cancelled:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        while not cancelled.wait(1.0):
            pass
    server.shutdown()
    server.server_close()
    say_json(server.as_json())
    return 0
