"""Where the files of one supervised PostgreSQL server lie, and what they say about it. `postgres_server` calls it.

The installation's own folder (home) holds what the caller owns: passwords, the start lock, the start log and a pointer
to the root. The root holds what the server uses. It is home itself, unless the server's account cannot get there (a
clone below /root, say); then it is a folder of its own below the service root, and nobody's permissions are changed.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from regie.store.postgres_process import (
    TAIL_LINES,
    Account,
    ServerFailed,
    is_locked,
    processes_in,
    send,
    write_durably,
)

PORT = 5432
"""Names the socket file only: each server has a socket folder of its own."""
SOCKET_PATH_BYTES = 107
"""Longest socket path Linux takes: sun_path less its closing zero, unix(7)."""
POINTER = "place.json"
OWNER_NOTE = "home"


@dataclass(frozen=True)
class ServerFolders:
    """The folders of one server."""

    home: Path
    root: Path

    @property
    def data(self) -> Path:
        """The data folder. It exists only when it is complete."""
        return self.root / "data"

    @property
    def config(self) -> Path:
        """Settings, owned by the caller, so that the server's account cannot change its own rules."""
        return self.root / "config"

    @property
    def log(self) -> Path:
        """The server's log files, one for each day of the week."""
        return self.root / "log"

    @property
    def alive(self) -> Path:
        """The file that every process of the running server keeps locked."""
        return self.root / "alive.lock"

    @property
    def start_log(self) -> Path:
        """What the server said before its own log took over, at the last start."""
        return self.home / "start.log"

    @property
    def socket(self) -> Path:
        """The socket folder: inside the root, or a short one in /tmp if that path is too long or has odd letters."""
        near = self.root / "socket"
        fits = len(os.fsencode(near / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES
        # PostgreSQL and libpq both read a comma in this path as "and another folder".
        if fits and re.fullmatch(r"[\w/.+-]+", str(near), re.ASCII):
            return near
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path("/tmp") / f"regie-{digest}"  # noqa: S108 - made private and checked for its owner before use

    def data_version(self) -> str:
        """Major version of the server that made the data folder, such as "18"."""
        return (self.data / "PG_VERSION").read_text(encoding="ascii").strip()

    def is_alive(self) -> bool:
        """Tell whether any process of this server exists."""
        return is_locked(self.alive)

    def first_process(self) -> int | None:
        """The server's first process, checked to be that and not a later owner of its number."""
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").split("\n", maxsplit=1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in processes_in(self.data) else None

    def is_orphaned(self) -> bool:
        """Tell whether children work on although their first process is gone: they block the next start."""
        return self.first_process() is None and bool(processes_in(self.data))

    def end_orphans(self) -> None:
        """Kill every process that works in the data folder."""
        for pid in processes_in(self.data):
            send(pid, signal.SIGKILL)

    def remove_stale_marks(self) -> None:
        """Remove what a dead server leaves behind and a new one may trip over. Only call while holding `alive`.

        PostgreSQL refuses to start if the process number in one of these files is in use, by whatever program.

        Raises:
            ServerFailed: Somebody runs a server on this data folder by hand.
        """
        if strangers := processes_in(self.data):
            raise ServerFailed(
                f"Processes that Regie did not start work in {self.data}: {', '.join(map(str, sorted(strangers)))}.",
                hint="Stop them first.",
            )
        socket = self.socket / f".s.PGSQL.{PORT}"
        for mark in (self.data / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")):
            mark.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The last lines the server wrote, for an error message."""
        logs = sorted(self.log.glob("*.log"), key=lambda path: path.stat().st_mtime) if self.log.exists() else []
        words: list[str] = []
        for path in (self.start_log, *logs[-1:]):
            if path.exists():
                words += path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(words)

    def remove(self) -> None:
        """Delete everything the server kept. Only call when it has stopped."""
        shutil.rmtree(self.socket, ignore_errors=True)
        if self.root != self.home:
            shutil.rmtree(self.root)
        for name in ("data", "data.new", "config", "log", "socket"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        for name in ("alive.lock", "start.log", "passwords.json", POINTER):
            (self.home / name).unlink(missing_ok=True)


def find(home: Path) -> ServerFolders | None:
    """Find the folders that `home` points to; None when nothing was settled there yet."""
    try:
        pointer = json.loads((home / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    # Joined, so that "." keeps meaning home after the whole clone has been moved.
    return ServerFolders(home, home / pointer["root"])


def settle(home: Path, account: Account, service_root: Path) -> ServerFolders:
    """Decide where a new server's files go, and note it in `home` before anything is put there.

    Raises:
        ServerFailed: The account can enter neither `home` nor `service_root`.
    """
    root = home
    if not account.reaches(home):
        make_service_root(service_root, account)
        root = (
            service_root
            / f"{re.sub(r'[^a-z0-9]+', '-', home.parent.name.lower()).strip('-')[:20]}-{secrets.token_hex(4)}"
        )
        root.mkdir()
        root.chmod(0o755)
        write_durably(root / OWNER_NOTE, f"{home}\n", mode=0o644)
    write_durably(home / POINTER, json.dumps({"root": "." if root == home else str(root)}), mode=0o644)
    return ServerFolders(home, root)


def make_service_root(service_root: Path, account: Account) -> None:
    """Make the folder for what the service account must read; one that exists is checked, never opened to others.

    Raises:
        ServerFailed: The account cannot enter it, or accounts besides root may write in it.
    """
    if not service_root.exists():
        service_root.mkdir(parents=True)
        service_root.chmod(0o755)
    found = service_root.stat()
    if found.st_uid != 0 or found.st_mode & 0o022 or not account.reaches(service_root):
        raise ServerFailed(
            f"{service_root} must belong to root, be closed to other writers and open to readers.",
            hint=f"chown root {service_root}; chmod 755 {service_root}",
        )


def forgotten(home: Path, service_root: Path) -> list[ServerFolders]:
    """Find folders below `service_root` that were made for `home` and that it no longer points to: home was deleted."""
    current = find(home)
    found = [
        ServerFolders(home, note.parent)
        for note in sorted(service_root.glob(f"*/{OWNER_NOTE}"))
        if note.read_text(encoding="utf-8").strip() == str(home)
    ]
    return [each for each in found if current is None or each.root != current.root]
