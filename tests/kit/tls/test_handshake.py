"""What a handshake shows, against servers of Python's `ssl`, and of OpenSSL for what Python's does no more."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.capabilities.tls import Code, Finding
from regie.kit.reaching import Unreached
from regie.kit.tls.handshake import NotShown, Shown, _why
from regie_sandbox.authority import BORN, Wanted, issue, ocsp_answer
from regie_sandbox.tls_farm import until_the_end
from tests.counterparts.here import NOBODYS_PORT
from tests.counterparts.tls import context, serving

from .servers import QUICK, client

ROOT = issue(Wanted("Root", is_authority=True))
MIDDLE = issue(Wanted("Middle", is_authority=True), ROOT)
LEAF = issue(Wanted("leaf", ("www.example.test",)), MIDDLE)
OTHER = issue(Wanted("other", ("other.example.test",)), MIDDLE)
STRANGER = issue(Wanted("stranger", ("stranger.example.test",)))


async def look(port: int, name: str = "www.example.test", host: str = "127.0.0.1") -> Shown:
    return await client().look(host, port, name)


async def refused(port: int, host: str = "127.0.0.1") -> Finding:
    with pytest.raises(NotShown) as caught:
        await look(port, host=host)
    return caught.value.finding


@pytest.mark.parametrize("chain", [(LEAF,), (LEAF, MIDDLE), (LEAF, MIDDLE, ROOT), (STRANGER,), (LEAF, STRANGER)])
async def test_the_whole_chain_is_shown_as_presented(tmp_path: Path, chain: tuple[object, ...]) -> None:
    presented = [each for each in (LEAF, MIDDLE, ROOT, STRANGER) if each in chain]
    async with serving(context(tmp_path, *presented)) as port:
        shown = await look(port)
    assert shown.chain == tuple(each.der for each in presented)
    assert (shown.address, shown.protocol, shown.staple) == ("127.0.0.1", "TLSv1.3", b"")


@pytest.mark.parametrize("name", ["www.example.test", "other.example.test", "192.0.2.7"])
async def test_the_name_is_asked_for_and_an_address_is_not(tmp_path: Path, name: str) -> None:
    asked: list[str | None] = []
    made, other = context(tmp_path, LEAF), context(tmp_path, OTHER)

    def choose(connection: ssl.SSLObject, wanted: str | None, _: ssl.SSLContext) -> None:
        asked.append(wanted)
        connection.context = other if wanted == "other.example.test" else made

    made.sni_callback = choose
    async with serving(made) as port:
        shown = await look(port, name)
    assert asked == [None if name == "192.0.2.7" else name]
    assert shown.chain[0] == (OTHER if name == "other.example.test" else LEAF).der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_our_certificate_shows_its_own_first(tmp_path: Path, version: ssl.TLSVersion) -> None:
    made = context(tmp_path, LEAF, MIDDLE)
    made.verify_mode, made.minimum_version, made.maximum_version = ssl.CERT_REQUIRED, version, version
    async with serving(made) as port:
        assert (await look(port)).chain == (LEAF.der, MIDDLE.der)


async def send_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x70")
    await until_the_end(reader, writer)


async def test_an_alert_is_told_by_its_name() -> None:
    async with serving(None, send_alert) as port:
        finding = await refused(port)
    assert (finding.code, finding.cause) == (Code.UNREACHABLE, "tls_alert")
    assert "unrecognized_name" in finding.text


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.close()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    taken: socket.socket = writer.get_extra_info("socket")
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def begin_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"\x16\x03\x03\x00\x40\x02")
    writer.close()


async def send_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + b"\x00" * 0x3FFC)
            await writer.drain()


@pytest.mark.parametrize(
    ("serve", "code", "cause"),
    [
        (speak_http, Code.NO_TLS, ""),
        (hang_up, Code.UNREACHABLE, "closed"),
        (cut, Code.UNREACHABLE, "reset"),
        (begin_and_hang_up, Code.UNREACHABLE, "closed"),
        (send_without_end, Code.UNREACHABLE, "tls_error"),
        (until_the_end, Code.UNREACHABLE, "timeout"),
    ],
)
async def test_servers_that_show_nothing(serve: object, code: Code, cause: str) -> None:
    async with serving(None, serve) as port:  # type: ignore[arg-type]  # one of those above
        before = asyncio.get_running_loop().time()
        finding = await refused(port)
        assert asyncio.get_running_loop().time() - before < QUICK.handshake_s + 5
    assert (finding.code, finding.cause) == (code, cause)


async def test_nobody_listens() -> None:
    assert (await refused(NOBODYS_PORT)).cause == "refused"


@pytest.mark.slow
async def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    async def nobody(host: str) -> list[str]:
        raise socket.gaierror

    async def silent(host: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    for look_up in (nobody, silent):
        with pytest.raises(NotShown) as caught:
            await client(look_up=look_up).look("www.example.test", 443, "www.example.test")
        assert caught.value.finding.cause == "dns"


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(tmp_path: Path) -> None:
    async def two(host: str) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with serving(context(tmp_path, LEAF)) as port:
        shown = await client(look_up=two).look("www.example.test", port, "www.example.test")
    assert shown.address == "127.0.0.1"


def records() -> st.SearchStrategy[bytes]:
    record = st.tuples(st.integers(0, 255), st.binary(max_size=20)).map(
        lambda each: bytes([each[0]]) + b"\x03\x03" + len(each[1]).to_bytes(2, "big") + each[1]
    )
    return st.lists(record | st.binary(max_size=20), max_size=5).map(b"".join)


@given(records())
def test_any_bytes_have_a_cause(heard: bytes) -> None:
    assert _why(heard).code in {Code.UNREACHABLE, Code.NO_TLS}


@given(st.integers(0, 255))
def test_an_alert_is_found_behind_other_records(number: int) -> None:
    heard = b"\x16\x03\x03\x00\x02ab" + b"\x15\x03\x03\x00\x02\x02" + bytes([number])
    assert _why(heard).cause == "tls_alert"


def test_an_unreached_cause_is_a_word() -> None:
    assert Unreached("dns").cause == "dns"


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl command: what only it can serve is not tried"
)


@asynccontextmanager
async def openssl_server(folder: Path, *options: str) -> AsyncIterator[int]:
    """The port of `openssl s_server`, which speaks what Python's `ssl` does no more."""
    (folder / "chain.pem").write_bytes(LEAF.pem + MIDDLE.pem)
    (folder / "leaf.pem").write_bytes(LEAF.pem)
    (folder / "key.pem").write_bytes(LEAF.key_pem)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "leaf.pem", "-key", "key.pem"),
        *("-cert_chain", "chain.pem", "-naccept", "50", *options),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(NotShown):
                    await look(port)
                    break
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()


@needs_openssl
@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "protocol"),
    [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1"), ("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")],
)
async def test_old_protocols_are_spoken_so_that_they_are_seen(tmp_path: Path, option: str, protocol: str) -> None:
    async with openssl_server(tmp_path, option, "-cipher", "DEFAULT@SECLEVEL=0") as port:
        assert (await look(port)).protocol == protocol


@needs_openssl
@pytest.mark.slow
async def test_a_stapled_answer_is_shown(tmp_path: Path) -> None:
    staple = ocsp_answer(LEAF, now=BORN)
    (tmp_path / "staple.der").write_bytes(staple)
    async with openssl_server(tmp_path, "-status_file", "staple.der") as port:
        assert (await look(port)).staple == staple
