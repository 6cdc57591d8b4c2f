"""Accounts, locks and processes under the supervised PostgreSQL server. The other `postgres_` modules call it.

Whether a server lives is never guessed from process numbers, which the system hands out again. Each server inherits an
open, locked file, and the kernel frees that lock when the last process of the server has ended, however it ended.
"""

import errno
import fcntl
import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from regie.core.errors import RegieError

SERVICE_ACCOUNTS = ("postgres", "nobody")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that server programs see: a caller's PG* variables and locale must not reach them."""
TAIL_LINES = 12


class ServerFailed(RegieError):
    """The database server on this machine cannot be prepared, started or stopped."""


@dataclass(frozen=True)
class Account:
    """The system account that the server runs as; `switches` when that is not the calling account."""

    uid: int
    gid: int
    switches: bool

    def popen(self, command: Sequence[str], *, stdin: int, output: int, keep: int) -> subprocess.Popen[bytes]:
        """Start a program as this account, in its own session, away from any folder of the caller.

        Args:
            command: Program and arguments.
            stdin: File or pipe it reads, as `subprocess` takes it.
            output: File or pipe that takes both its streams.
            keep: Open file it inherits, so that the lock on it lasts as long as the program.
        """
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            pass_fds=(keep,),
            start_new_session=True,
            user=self.uid if self.switches else None,
            group=self.gid if self.switches else None,
            extra_groups=[] if self.switches else None,
        )

    def run(self, command: Sequence[str], *, keep: int, script: str = "") -> None:
        """Run a program to its end, feeding it `script`.

        Raises:
            ServerFailed: It ended badly; the message holds its last lines.
        """
        program = self.popen(command, stdin=subprocess.PIPE, output=subprocess.PIPE, keep=keep)
        with program:
            said, _ = program.communicate(script.encode())
        if program.returncode != 0:
            lines = said.decode(errors="replace").splitlines()[-TAIL_LINES:]
            raise ServerFailed("\n".join([f"{Path(command[0]).name} failed:", *lines]))

    def reaches(self, folder: Path) -> bool:
        """Tell whether this account may enter `folder`; the kernel answers, so access lists count as well."""
        if not self.switches:
            return True
        with Path(os.devnull).open("r+b", buffering=0) as nowhere:
            probe = self.popen(
                ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)],
                stdin=nowhere.fileno(),
                output=nowhere.fileno(),
                keep=nowhere.fileno(),
            )
            return probe.wait() == 0

    def make_folder(self, folder: Path) -> None:
        """Make `folder` (whose parent exists) private to this account, or check that it is.

        Raises:
            ServerFailed: Something else is there: another account's folder, a link, a file.
        """
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if is_private and self.switches and found.st_uid == os.geteuid():
            os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        elif not is_private or found.st_uid != self.uid:
            raise ServerFailed(
                f"{folder} should be a folder that only user id {self.uid} can open, and it is not.",
                hint=f"Look at it with `ls -ld {folder}` and move it away.",
            )


def choose_account(data: Path) -> Account:
    """Choose who runs the server: the caller; under root the owner of `data`, else a service account, never root.

    Raises:
        ServerFailed: `data` belongs to somebody else, or the machine has no account to use.
    """
    caller = os.geteuid()
    owned = data.stat() if data.exists() else None
    if caller != 0:
        if owned is not None and owned.st_uid != caller:
            raise ServerFailed(
                f"The database in {data} belongs to user id {owned.st_uid}; you are user id {caller}.",
                hint="Run this as that user or as root.",
            )
        return Account(caller, os.getegid(), switches=False)
    if owned is not None and owned.st_uid == 0:
        raise ServerFailed(
            f"The database in {data} belongs to root, and a server never runs as root.",
            hint=f"Give the folder to the account that made it: chown -R ACCOUNT {data}",
        )
    if owned is not None:
        return Account(owned.st_uid, owned.st_gid, switches=True)
    for name in SERVICE_ACCOUNTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid, switches=True)
    raise ServerFailed(
        f"The database server must not run as root, and this machine has no account named {SERVICE_ACCOUNTS[0]}.",
        hint="Make one: useradd --system postgres",
    )


def require_account_name(account: Account) -> None:
    """Refuse a user id without an account: initdb looks its name up and would fail with less to go by.

    Raises:
        ServerFailed: The user id has no account.
    """
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise ServerFailed(
            f"User id {account.uid} has no account on this machine, and PostgreSQL refuses to work for it.",
            hint="Add a line for it to /etc/passwd, or run as a user that has one.",
        ) from None


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into `ServerFailed` about the server of `home`."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "The disk is full: free some space and try again.",
            errno.EDQUOT: "Your disk quota is used up: free some space and try again.",
            errno.EACCES: "Run this as the user who made it, or as root.",
            errno.EPERM: "Run this as the user who made it, or as root.",
        }
        raise ServerFailed(
            f"The database server of {home}: {error.strerror or error}, at {error.filename or 'a file it keeps'}.",
            hint=hints.get(error.errno or 0),
        ) from error


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Open and lock a file; None when somebody holds it. Closing every copy of the number returned frees the lock."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    except OSError:
        os.close(number)
        raise
    return number


def is_locked(path: Path) -> bool:
    """Tell whether some process holds the lock on `path`."""
    if not path.exists():
        return False
    number = try_lock(path, shared=True)
    if number is None:
        return True
    os.close(number)
    return False


@contextmanager
def held(path: Path, *, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the lock on `path`, calling `on_wait` once if somebody else has it first; gives the open file."""
    number = try_lock(path)
    if number is None:
        on_wait()
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(number, fcntl.LOCK_EX)
    try:
        yield number
    finally:
        os.close(number)


def processes_in(folder: Path) -> set[int]:
    """Find the processes that work in `folder`; every process of a PostgreSQL server works in its data folder."""
    found: set[int] = set()
    with suppress(FileNotFoundError):
        here = folder.stat()
        for entry in Path("/proc").iterdir():
            # Processes end while we look, and other people's may not be looked at.
            with suppress(OSError):
                if entry.name.isdigit() and os.path.samestat((entry / "cwd").stat(), here):
                    found.add(int(entry.name))
    return found


def send(pid: int, signal: int) -> None:
    """Send a signal to a process that may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal)


def write_durably(path: Path, text: str, *, mode: int) -> None:
    """Write a file so that after a crash there is the old text or the new one, never half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        os.fchmod(number, mode)
        file.write(text)
        file.flush()
        os.fsync(number)
    rename_durably(fresh, path)


def rename_durably(source: Path, target: Path) -> None:
    """Rename within one folder and make the folder's new content last."""
    source.rename(target)
    number = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
