"""Where the gateway's requests may go: to addresses that were looked at, however a vendor or a name server tries."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import boto3
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import Denied
from regie.gateway.authentication import Basic
from regie.gateway.guarding import Guarded, GuardedThread, guard_client_of_aws
from regie.gateway.vault import SecretText
from regie.kit.reaching import Dialler, Unreached
from regie.kit.session import Session
from regie_sandbox.servers.authority import Authority

PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")
PROBES = (
    # Of IPv4: this machine and network, private, shared, link-local, protocol assignments, examples, benchmarks,
    # relays, multicast, reserved, broadcast.
    *("0.0.0.0", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),  # noqa: S104  asked for
    *("169.254.169.254", "192.0.0.9", "192.0.0.170", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"),
    *("192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "100.100.100.200"),
    # Of IPv6: the same, and addresses that hold one of IPv4.
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *(
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "168.63.129.16",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ),
)
WAYS_TO_WRITE_LOOPBACK = ("0x7f.1", "2130706433", "127.1", "0177.0.0.1", "0", "１２７.0.0.1", "localhost", "[::1]")
EVERYTHING = [ip_network("0.0.0.0/0"), ip_network("::/0")]
HERE = [ip_network("127.0.0.0/8")]


@pytest.mark.parametrize("probe", PROBES)
def test_what_is_not_public_is_not_reached(probe: str) -> None:
    assert not Dialler().may_reach(ip_address(probe))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_reached_unless_only_named_networks_are(address: str) -> None:
    assert Dialler().may_reach(ip_address(address))
    assert not Dialler(HERE, with_public=False).may_reach(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "fd20:ce::254",
        # What a router may pass on to one of them.
        *("::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1"),
        *("2001:0:a9fe:a9fe::", "2001:0:5db8:d822::5601:5601"),
    ],
)
def test_where_clouds_keep_a_machines_credentials_nothing_is_allowed(address: str) -> None:
    assert not Dialler([*EVERYTHING, ip_network("169.254.169.254/32")]).may_reach(ip_address(address))


@given(number=st.integers(0, 2**32 - 1))
def test_an_address_is_judged_alike_however_it_is_wrapped(number: int) -> None:
    plain, mapped = IPv4Address(number), IPv6Address(f"::ffff:{IPv4Address(number)}")
    for dialler in (Dialler(), Dialler(HERE), Dialler(EVERYTHING)):
        assert dialler.may_reach(plain) == dialler.may_reach(mapped)
    for net in ("::", "64:ff9b::", "64:ff9b:1::"):
        assert not Dialler().may_reach(IPv6Address(int(IPv6Address(net)) + number))
    assert not Dialler().may_reach(IPv6Address((0x2002 << 112) + (number << 80)))


@given(number=st.integers(0, 2**128 - 1))
def test_no_special_address_of_ipv6_passes(number: int) -> None:
    address = IPv6Address(number)
    if Dialler().may_reach(address):
        # Global unicast is all that IANA has given out (RFC 4291, 2.4; iana.org/assignments/ipv6-address-space), and
        # what a mapped address stands for.
        assert address in ip_network("2000::/3") or address.ipv4_mapped is not None


class Vendor:
    """A server on this machine that counts who comes.

    Attributes:
        port: Where it listens.
        asked: Host header of each request, in order.
    """

    port = 0

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.location = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.headers["Host"])
                self.send_response(302 if outer.location else 200)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    made = Vendor()
    yield made
    made.close()


async def leads_here(host: str) -> list[str]:
    return ["127.0.0.1"]


async def get(url: str, transport: httpx2.AsyncBaseTransport, **more: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=transport, trust_env=False, **more) as client:
        return await client.get(url)


@pytest.mark.parametrize("host", WAYS_TO_WRITE_LOOPBACK)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_way_to_write_this_machine_leads_there(vendor: Vendor, host: str, scheme: str) -> None:
    with pytest.raises((Denied, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)):
        await get(f"{scheme}://{host}:{vendor.port}/", Guarded())
    assert vendor.asked == []


async def test_a_name_that_leads_here_is_denied_and_says_what_to_do(vendor: Vendor) -> None:
    with pytest.raises(Denied, match="reach:"):
        await get(f"https://api.example.com:{vendor.port}/", Guarded(look_up=leads_here))
    assert vendor.asked == []


async def test_a_network_that_is_named_is_reached_under_the_name(vendor: Vendor) -> None:
    answer = await get(f"http://api.example.com:{vendor.port}/", Guarded(HERE, look_up=leads_here))
    assert answer.is_success
    assert vendor.asked == [f"api.example.com:{vendor.port}"]


async def test_the_public_internet_is_not_asked_in_clear() -> None:
    async def public(host: str) -> list[str]:
        return [PUBLIC[0]]

    with pytest.raises(Denied):
        await get("http://api.example.com/", Guarded(HERE, look_up=public))


async def test_over_tls_the_name_is_asked_for_and_must_be_in_the_certificate(tmp_path: Any) -> None:
    authority = Authority()
    issued = authority.issue(["api.example.com"])
    (tmp_path / "chain").write_text(issued.chain)
    (tmp_path / "key").write_text(issued.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    named: list[str | None] = []
    context.sni_callback = lambda _, name, __: named.append(name)
    trusting = ssl.create_default_context(cadata=authority.pem)
    vendor = Vendor(context)
    try:
        answer = await get(f"https://api.example.com:{vendor.port}/", Guarded(HERE, trusting, leads_here))
        assert answer.is_success
        assert named == ["api.example.com"]
        with pytest.raises(httpx2.ConnectError):
            await get(f"https://other.example.com:{vendor.port}/", Guarded(HERE, trusting, leads_here))
    finally:
        await asyncio.to_thread(vendor.close)


async def test_the_second_answer_of_a_name_server_is_not_asked_for(vendor: Vendor) -> None:
    """A name that leads to a public address first, and here when it is asked again."""
    answers = [[PUBLIC[0]], ["127.0.0.1"]]
    asked: list[str] = []

    async def rebound(host: str) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    transport = Guarded(look_up=rebound)
    with pytest.raises((Denied, httpx2.TransportError)):
        await get(f"https://api.example.com:{vendor.port}/", transport, timeout=httpx2.Timeout(5.0, connect=0.3))
    assert len(asked) == 1
    with pytest.raises(Denied):
        await get(f"https://api.example.com:{vendor.port}/", Guarded(look_up=rebound))
    assert vendor.asked == []


async def test_of_several_addresses_only_those_that_may_be_are_tried(vendor: Vendor) -> None:
    async def both(host: str) -> list[str]:
        return ["10.255.255.1", "169.254.169.254", "127.0.0.1"]

    assert await Dialler(HERE, look_up=both).addresses("x") == [ip_address("127.0.0.1")]
    assert (await get(f"http://x.example.com:{vendor.port}/", Guarded(HERE, look_up=both))).is_success


async def test_a_redirect_is_not_followed_and_would_be_checked(vendor: Vendor) -> None:
    vendor.location = "http://169.254.169.254/latest/meta-data"
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{vendor.port}", transport=Guarded(HERE), follow_redirects=True, trust_env=False
    ) as client:
        with pytest.raises(Denied):
            await client.get("/")
        with pytest.raises(Exception, match="redirect"):
            await Session(client, vendor="Vendor").get("/")
    assert len(vendor.asked) == 2


@pytest.mark.parametrize("url", ["http://user:password@127.0.0.1:{}/", "http://user@127.0.0.1:{}/"])
async def test_credentials_in_an_address_are_refused(vendor: Vendor, url: str) -> None:
    with pytest.raises(Denied):
        await get(url.format(vendor.port), Guarded(HERE))
    assert vendor.asked == []


async def test_no_proxy_of_the_environment_is_asked(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Vendor()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert (await get(f"http://127.0.0.1:{vendor.port}/", Guarded(HERE))).is_success
    client = of_aws(f"http://127.0.0.1:{vendor.port}", Dialler())
    with pytest.raises(EndpointConnectionError):
        client.get_caller_identity()
    client.close()
    await asyncio.to_thread(proxy.close)
    assert proxy.asked == []


def test_a_thread_is_guarded_as_well(vendor: Vendor) -> None:
    with httpx2.Client(transport=GuardedThread(), trust_env=False) as client, pytest.raises(Denied):
        client.get(f"https://localhost:{vendor.port}/")
    with httpx2.Client(transport=GuardedThread(HERE), trust_env=False) as client:
        assert client.get(f"http://localhost:{vendor.port}/").is_success
    assert vendor.asked == [f"localhost:{vendor.port}"]


def test_in_clear_a_client_of_aws_reaches_named_networks_only() -> None:
    client = of_aws("https://sts.eu-west-1.amazonaws.com", Dialler(HERE))
    pools = client._endpoint.http_session._manager.pool_classes_by_scheme
    may = {scheme: pool.ConnectionCls.checks.may_reach for scheme, pool in pools.items()}
    client.close()
    assert [may[scheme](ip_address(PUBLIC[0])) for scheme in ("http", "https")] == [False, True]
    assert [may[scheme](ip_address("127.0.0.1")) for scheme in ("http", "https")] == [True, True]


def of_aws(endpoint: str, dialler: Dialler) -> Any:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=2, proxies={})
    client = boto3.Session("key", "secret", region_name="eu-west-1").client("sts", endpoint_url=endpoint, config=config)
    guard_client_of_aws(client, dialler)
    return client


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_client_of_aws_is_guarded_as_well(vendor: Vendor, host: str) -> None:
    endpoint = f"http://{host}:{vendor.port}"
    client = of_aws(endpoint, Dialler())
    with pytest.raises(EndpointConnectionError):
        client.get_caller_identity()
    client.close()
    assert vendor.asked == []
    client = of_aws(endpoint, Dialler(HERE))
    with pytest.raises(Exception, match="parse"):
        client.get_caller_identity()
    client.close()
    assert vendor.asked == [f"{host}:{vendor.port}"]


async def test_what_needs_no_look_up_is_decided_by_the_address_itself() -> None:
    with pytest.raises(Unreached, match="not_allowed"):
        await Dialler().addresses("127.0.0.1")
    with pytest.raises(Unreached, match="not_allowed"):
        Dialler().addresses_now("[::1]")


async def test_an_authenticated_request_does_not_show_its_secret_where_it_is_denied(vendor: Vendor) -> None:
    async def secret(refused: SecretText | None = None) -> SecretText:
        return SecretText("canary-9ab2")

    with pytest.raises(Denied) as caught:
        await get(f"https://x.example.com:{vendor.port}/", Guarded(look_up=leads_here), auth=Basic("u", secret))
    assert "canary" not in str(caught.value)
