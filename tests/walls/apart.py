"""A program: processes of Regie in a network namespace from which only the database and the gateway can be reached.

It is started by `unshare --net`, so there is no network but a loopback of its own. On that it listens at the ports of
database and gateway and passes on what comes through sockets in a folder; the test stands at their other end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
"""netdevice(7)."""


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def listen(port: int, way_out: Path) -> None:
    with socket.create_server(("127.0.0.1", port)) as door:
        while True:
            inside, _ = door.accept()
            outside = socket.socket(socket.AF_UNIX)
            outside.connect(str(way_out))
            for pair in ((inside, outside), (outside, inside)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()


def reach(host: str, port: int) -> str:
    """What comes of connecting: `reached`, or the error's name."""
    try:
        with socket.create_connection((host, port), timeout=3):
            return "reached"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else type(error).__name__


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.argv[1])
    bring_loopback_up()
    for port in asked["ports"]:
        threading.Thread(target=listen, args=(port, Path(asked["folder"]) / f"{port}"), daemon=True).start()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *each["command"]],
            env={**os.environ, **each["environment"]},  # noqa: TID251  a program of its own
            stdout=subprocess.PIPE,
        )
        for each in asked["processes"]
    ]
    said = [each.stdout.readline().decode() if each.stdout else "" for each in started]
    probes = {f"{host}:{port}": reach(host, port) for host, port in asked["probes"]}
    sys.stdout.write(json.dumps({"ready": said, "probes": probes}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    for each in started:
        each.terminate()
    for each in started:
        each.communicate(timeout=30)


if __name__ == "__main__":
    main()
