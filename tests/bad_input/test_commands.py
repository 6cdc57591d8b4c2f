"""Wrong files and wrong arguments on the command line: a sentence, an exit code, nothing started."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from regie import cli
from regie.cli.installation import Installation
from regie.cli.ports import require_free
from regie.core.errors import InvalidInput
from regie.settings import Settings

from .stage import OFFBOARD, regie

pytestmark = pytest.mark.slow

BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"
DOMAIN = {"domain": "parking", "title": "Parking", "owner": "team:it", "classification": "internal"}
JIRA: dict[str, Any] = {
    "connector": "jira",
    "domains": ["identity"],
    "settings": {"site": "https://acme.example.com", "email": "regie@example.com"},
    "secrets": {"api_token": "secret://identity/jira-token", "webhook": "secret://identity/jira-webhook"},
}
TENANT: dict[str, Any] = {
    "tenant": "acme",
    "title": "Acme",
    "domains": ["identity"],
    "connections": {"jira": JIRA},
}
HEAD = "workflow: parking.free_place\ntitle: Free a place\nowner: team:it\n"
LOOK = 'steps:\n  - id: access\n    uses: identity.list_access\n    with: { user: "a@example.com" }\n'


class Done(NamedTuple):
    code: int
    out: str
    err: str


BESIDE = {
    "book_place": "input: { place: { type: text, required: false } }\nsteps:\n  - end:\n",
    "move_place": "steps:\n  - run: parking.free_place\n",
}
"""Workflows in the same folder."""
Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command line in this process: starting Python anew for each row would take most of the time."""
    monkeypatch.setenv("REGIE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGIE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["regie", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, said.out, said.err)

    return run


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def write_workspace(
    tmp_path: Path, *, tenant: str | dict[str, Any] | None = None, domain: str | dict[str, Any] | None = None
) -> Path:
    """A workspace with a tenant, and perhaps a domain, as text or as data."""
    folder = tmp_path / "workspace"
    given = TENANT if tenant is None else tenant
    write(folder / "tenants" / "acme.yaml", given if isinstance(given, str) else yaml.safe_dump(given, sort_keys=False))
    if domain is not None:
        text = domain if isinstance(domain, str) else yaml.safe_dump(domain, sort_keys=False)
        write(folder / "domains" / "parking" / "domain.yaml", text)
    return folder


def assert_refused(done: Done, *says: str) -> None:
    """Exit code 2, and what is wrong in words."""
    assert done.code == 2, done
    for each in says:
        assert each in done.err, done.err
    assert "Traceback" not in done.err


# --- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        pytest.param(HEAD + LOOK + "    retyr: {}\n", "8:5", "did you mean retry?", id="definition-unknown-key"),
        pytest.param(HEAD + "steps: soon\n", "4:8", "list", id="definition-wrong-type"),
        pytest.param(
            HEAD + "sla: { finish: 4h, stop: 3h }\n" + LOOK, "4:26", "before it is late", id="definition-sla-backwards"
        ),
        pytest.param(
            HEAD + LOOK + "  - uses: identity.list_access\n    with: { user: '${{ steps.access.gruops }}' }\n",
            "9:",
            "did you mean groups?",
            id="definition-misspelt-reference",
        ),
        pytest.param(
            HEAD + "steps:\n  - uses: identity.lsit_access\n",
            "5:",
            "did you mean identity.list_access?",
            id="definition-unknown-block",
        ),
        pytest.param(
            HEAD + "steps:\n  - run: parking.bok_place\n",
            "5:10",
            "did you mean parking.book_place?",
            id="definition-unknown-child",
        ),
        pytest.param(
            HEAD + "steps:\n  - run: parking.book_place\n    with: { plaec: A }\n",
            "6:13",
            "did you mean place?",
            id="definition-child-input",
        ),
        pytest.param(
            HEAD + "steps:\n  - run: parking.move_place\n",
            "5:10",
            "parking.free_place -> parking.move_place -> parking.free_place",
            id="definition-child-circle",
        ),
        pytest.param(
            HEAD + "steps:\n  - wait: { event: place.free }\n",
            "5:11",
            "nothing is waited for without end",
            id="definition-wait-without-end",
        ),
        pytest.param(
            HEAD + "start: { schedule: { cron: '30 25 * * *', zone: UTC } }\nsteps: [ { end: x } ]\n",
            "4:32",
            "it goes from 0 to 23",
            id="definition-wrong-time",
        ),
        pytest.param(
            HEAD + "start: { schedule: { cron: '30 7 * * *', zone: Amsterdam } }\nsteps: [ { end: x } ]\n",
            "4:48",
            "like Europe/Amsterdam",
            id="definition-no-zone",
        ),
        pytest.param(
            HEAD
            + "start: { poll: { uses: ticket.close, with: { ticket: A-1 }, every: 5m, key: item.id } }\n"
            + "steps: [ { end: x } ]\n",
            "4:24",
            "a poll only reads",
            id="definition-poll-writes",
        ),
        pytest.param(HEAD + BOMB, "4:4", "anchors (&) and aliases (*) are not allowed", id="definition-bomb"),
        pytest.param("[" * 100_000, "1:41", "nested more than 40 levels", id="definition-too-deep"),
        pytest.param("# " + "x" * 1_048_576, "1:1", "more than 1048576 characters", id="definition-too-large"),
        pytest.param(b"workflow: caf\xe9\n", "1:14", "not UTF-8", id="definition-not-utf8"),
    ],
)
def test_a_definition(command: Command, tmp_path: Path, text: str | bytes, place: str, says: str) -> None:
    file = write(tmp_path / "domains" / "parking" / "workflows" / "free_place.yaml", text)
    write(file.parent.parent / "domain.yaml", yaml.safe_dump(DOMAIN))
    for name, steps in BESIDE.items():
        write(file.parent / f"{name}.yaml", f"workflow: parking.{name}\ntitle: T\nowner: team:it\n{steps}")
    assert_refused(command("validate", str(file)), f"{file}:{place}", says)


@pytest.mark.row("definition-missing")
def test_a_definition_that_is_not_there(command: Command, tmp_path: Path) -> None:
    assert_refused(command("validate", str(tmp_path / "none")), "There is no workflow at")


# --- the workspace ----------------------------------------------------------------------------------------------------


def without(name: str, part: str) -> dict[str, Any]:
    return {**JIRA, part: {key: value for key, value in JIRA[part].items() if key != name}}


def tenant(**parts: Any) -> dict[str, Any]:
    return {**TENANT, **parts}


def jira(**parts: Any) -> dict[str, Any]:
    return tenant(connections={"jira": {**JIRA, **parts}})


@pytest.mark.parametrize(
    ("written", "says"),
    [
        pytest.param(tenant(titel="x"), "'titel' is not known here (did you mean title?)", id="tenant-unknown-key"),
        pytest.param(tenant(domains="identity"), "a list belongs here", id="tenant-wrong-type"),
        pytest.param(BOMB, "anchors (&) and aliases (*) are not allowed", id="tenant-bomb"),
        pytest.param(tenant(tenant="umbrella"), "lies in a file named acme.yaml", id="tenant-other-name"),
        pytest.param(
            tenant(domains=["identity", "identty"]),
            "there is no domain identty (did you mean identity?)",
            id="tenant-unknown-domain",
        ),
        pytest.param(
            tenant(settings={"identity": {"remind_atfer": "1h"}}),
            "the domain identity has no setting remind_atfer (did you mean remind_after?)",
            id="tenant-unknown-setting",
        ),
        pytest.param(
            tenant(settings={"identity": {"remind_after": 5}}),
            'the setting remind_after must be like its default "2h"',
            id="tenant-setting-wrong-type",
        ),
        pytest.param(
            tenant(settings={"identity": {"remind_after": "two hours"}}),
            'the setting remind_after must be like its default "2h"',
            id="tenant-setting-no-duration",
        ),
        pytest.param(
            jira(connector="jria"), "there is no connector jria (did you mean jira?)", id="connection-unknown-connector"
        ),
        pytest.param(jira(domains=["hr"]), "the tenant does not have the domain hr", id="connection-unknown-domain"),
        pytest.param(
            tenant(connections={"jira": without("site", "settings")}),
            "connections.jira: setting site is missing",
            id="connection-setting-missing",
        ),
        pytest.param(
            jira(settings={**JIRA["settings"], "fileds": {}}),
            "connections.jira: there is no setting fileds, did you mean fields?",
            id="connection-setting-unknown",
        ),
        pytest.param(
            jira(settings={**JIRA["settings"], "fields": "all"}),
            "connections.jira: setting fields of jira is not like its example",
            id="connection-setting-wrong-type",
        ),
        pytest.param(
            jira(limits={"burst-gett": 150}),
            "connections.jira: there is no limit burst-gett, did you mean burst-get?",
            id="connection-limit-unknown",
        ),
        pytest.param(
            tenant(connections={"jira": without("webhook", "secrets")}),
            "connections.jira: secret webhook is missing",
            id="connection-secret-missing",
        ),
        pytest.param(
            jira(secrets={**JIRA["secrets"], "api_token": "secret://hr/jira"}),
            "it uses secrets of domains that it does not serve: secret://hr/jira",
            id="connection-secret-foreign",
        ),
        pytest.param(
            jira(secrets={**JIRA["secrets"], "api_token": "ATATT3xFfGF0-geheim"}),
            "never the secret itself",
            id="connection-secret-in-clear",
        ),
    ],
)
def test_a_tenant(command: Command, tmp_path: Path, written: str | dict[str, Any], says: str) -> None:
    folder = write_workspace(tmp_path, tenant=written)
    done = command("validate")
    assert_refused(done, f"{folder / 'tenants' / 'acme.yaml'}:", says)
    assert "geheim" not in done.err + done.out
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("written", "says"),
    [
        pytest.param(
            {**DOMAIN, "sla": "4h"}, "'sla' is not known here (known: classification", id="domain-unknown-key"
        ),
        pytest.param({**DOMAIN, "classification": "secret"}, "one of these belongs here", id="domain-wrong-value"),
        pytest.param({**DOMAIN, "quota": {"runs": 0}}, "greater than or equal to 1", id="domain-quota-none"),
        pytest.param(BOMB, "anchors (&) and aliases (*) are not allowed", id="domain-bomb"),
        pytest.param({**DOMAIN, "domain": "garage"}, "lies in a folder named parking", id="domain-other-name"),
    ],
)
def test_a_domain(command: Command, tmp_path: Path, written: str | dict[str, Any], says: str) -> None:
    folder = write_workspace(tmp_path, domain=written)
    assert_refused(command("validate"), f"{folder / 'domains' / 'parking' / 'domain.yaml'}:", says)


@pytest.mark.row("workspace-missing")
def test_a_workspace_that_is_not_there(command: Command, tmp_path: Path) -> None:
    assert_refused(command("validate"), f"There is no folder {tmp_path / 'workspace'}.", "REGIE_WORKSPACE")


@pytest.mark.row("workspace-no-tenants")
def test_a_workspace_without_tenants(command: Command, tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    assert_refused(command("up"), "has no tenants", "tenants/NAME.yaml")
    assert not (tmp_path / "home" / "postgres").exists(), "no database was started for it"


@pytest.mark.row("workspace-faulty-at-start")
def test_a_faulty_workspace_at_start(command: Command, tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, tenant=tenant(titel="x"))
    assert_refused(command("up"), f"{folder / 'tenants' / 'acme.yaml'}:", "did you mean title?")
    assert not (tmp_path / "home" / "postgres").exists()


# --- input files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("in.yaml", None, "cannot be read: No such file", id="input-missing"),
        pytest.param("in.yaml", "", "holds no fields", id="input-empty"),
        pytest.param("in.yaml", "- employee\n", "holds no fields", id="input-list"),
        pytest.param("in.yaml", BOMB, "in.yaml:1:4: anchors (&) and aliases (*)", id="input-bomb"),
        pytest.param("in.yaml", "a: [\n", "not valid YAML", id="input-no-yaml"),
        pytest.param("in.json", "{", "is no JSON that can be used", id="input-no-json"),
        pytest.param("in.json", "[" * 100_000, "is no JSON that can be used", id="input-too-deep"),
        pytest.param("in.yaml", "x" * 1_048_577, "has more than 1048576 bytes", id="input-too-large"),
        pytest.param("in.yaml", b"employee: \xff\n", "in.yaml:1:11: the file is not UTF-8", id="input-not-utf8"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "start"])
def test_an_input_file(  # noqa: PLR0917  a row of a table has as many columns
    command: Command, tmp_path: Path, verb: str, name: str, content: str | bytes | None, says: str
) -> None:
    file = tmp_path / name
    if content is not None:
        write(file, content)
    assert_refused(command(verb, OFFBOARD, "--input", str(file)), says)
    assert not (tmp_path / "home").exists(), "nothing was started for it"


@pytest.mark.row("input-folder")
def test_an_input_that_is_a_folder(command: Command, tmp_path: Path) -> None:
    done = command("plan", OFFBOARD, "--input", str(tmp_path))
    assert done.code == 2
    assert "is a directory" in done.err


# --- settings, secrets, machine ---------------------------------------------------------------------------------------


@pytest.mark.row("setting-wrong")
def test_a_setting_that_is_no_number(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIE_PORT", "many")
    monkeypatch.setenv("REGIE_PASSWORD", "geheim")
    done = command("workflows")
    assert_refused(done, "REGIE_PORT: Input should be a valid integer")
    assert "geheim" not in done.err


@pytest.mark.parametrize("port", ["99999", "-1"])
@pytest.mark.parametrize(
    "setting", ["REGIE_PORT", "REGIE_GATEWAY_PORT", "REGIE_NOTARY_METRICS_PORT", "REGIE_WORKER_METRICS_PORT"]
)
@pytest.mark.row("port-none")
def test_a_port_that_there_is_not(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, port: str
) -> None:
    monkeypatch.setenv(setting, port)
    assert_refused(command("up", "--demo"), f"{setting}: Input should be ")
    assert not (tmp_path / "home").exists()


@pytest.mark.row("port-none-next")
def test_a_port_that_leaves_none_for_the_second_worker() -> None:
    with pytest.raises(InvalidInput, match="Port 65536 cannot be used: 65535 is the last one") as refused:
        require_free(65_536, "REGIE_WORKER_METRICS_PORT")
    assert "REGIE_WORKER_METRICS_PORT" in str(refused.value.hint)


@pytest.mark.row("block-unknown")
def test_a_block_that_is_not_there(command: Command) -> None:
    assert_refused(command("blocks", "ticket.explode"), "There is no block 'ticket.explode'.")


@pytest.mark.row("secret-reference-wrong")
def test_a_secret_under_a_wrong_name(command: Command, tmp_path: Path) -> None:
    assert_refused(command("secret", "put", "jira-token", "--tenant", "acme"), "write secret://domain/name")
    assert not (tmp_path / "home").exists()


@pytest.mark.row("secret-empty")
def test_a_secret_that_is_empty(tmp_path: Path) -> None:
    done = regie(tmp_path / "home", "secret", "put", "secret://identity/x", "--tenant", "acme", stdin="\n")
    assert done.returncode == 2
    assert "would be empty" in done.stderr


@pytest.mark.row("port-taken")
def test_a_port_that_is_taken(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workspace(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        monkeypatch.setenv("REGIE_PORT", str(port))
        done = command("up")
    assert done.code == 4
    assert f"Port {port} cannot be used: Address already in use." in done.err
    assert "REGIE_PORT" in done.err
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.row("metrics-port-taken")
def test_a_port_for_metrics_that_is_taken(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workspace(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        monkeypatch.setenv("REGIE_PORT", "0")
        monkeypatch.setenv("REGIE_WORKER_METRICS_PORT", str(port))
        done = command("up")
    assert done.code == 4
    assert f"Port {port} cannot be used: Address already in use." in done.err
    assert "REGIE_WORKER_METRICS_PORT" in done.err
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.row("traces-no-address")
def test_traces_that_go_nowhere(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIE_TRACES_URL", "collector:4318")
    done = command("up")
    assert done.code == 2
    assert "REGIE_TRACES_URL" in done.err
    assert "collector" not in done.err


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "Pl\\xe4tze \\u0141"), ("iso-8859-1", "Pl\xe4tze \\u0141")])
@pytest.mark.row("output-no-unicode")
def test_what_the_output_cannot_carry_is_escaped(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    title = "Pl\xe4tze \u0141"
    folder = write_workspace(tmp_path, domain=DOMAIN) / "domains" / "parking" / "workflows"
    write(folder / "free_place.yaml", (HEAD + LOOK).replace("Free a place", title))

    def output(*arguments: str) -> str:
        carried = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(carried, encoding=encoding))
        assert command("workflows", *arguments).code == 0
        sys.stdout.flush()
        return carried.getvalue().decode(encoding)

    assert shown in output()
    assert title in [each["title"] for each in json.loads(output("--json"))]


@pytest.mark.parametrize("verb", ["up", "runs", "demo"])
@pytest.mark.row("home-unusable")
def test_a_home_that_cannot_be_made(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    write(tmp_path / "file", "")
    monkeypatch.setenv("REGIE_HOME", str(tmp_path / "file" / "home"))
    done = command(verb)
    assert_refused(done, "cannot be used: Not a directory.", "Set REGIE_HOME to a folder of yours.")


@pytest.mark.row("database-unreachable")
def test_a_database_that_does_not_answer(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workspace(tmp_path)
    monkeypatch.setenv("REGIE_PORT", "0")
    monkeypatch.setenv("REGIE_DATABASE_URL", "postgresql://regie:geheim@127.0.0.1:1/regie")
    done = command("up")
    assert done.code == 4
    assert "The database cannot be reached" in done.err
    assert "REGIE_DATABASE_URL" in done.err
    assert "geheim" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("url", ["nonsense", "postgresql://regie:geheim@["])
@pytest.mark.row("database-no-address")
def test_a_database_address_that_is_none(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    write_workspace(tmp_path)
    monkeypatch.setenv("REGIE_PORT", "0")
    monkeypatch.setenv("REGIE_DATABASE_URL", url)
    done = command("up")
    assert_refused(done, "REGIE_DATABASE_URL is no address of a PostgreSQL.")
    assert "geheim" not in done.err


@contextlib.contextmanager
def running(home: Path) -> Iterator[None]:
    """Something that holds the installation, says that it runs, and does not answer."""
    settings = Settings(home=home, database_url="", workspace=None, port=0)
    installation = Installation(settings, lambda _: None)
    with installation.alone():
        installation.write_state(web="http://127.0.0.1:9")
        yield


@pytest.mark.row("sign-ins-broken")
def test_kept_passwords_that_cannot_be_read(command: Command, tmp_path: Path) -> None:
    with running(tmp_path / "home"):
        write(tmp_path / "home" / "sign-ins.json", "{")
        done = command("approve", "1", "--as", "ingrid.larsen@example.com")
    assert_refused(done, "sign-ins.json is no JSON.")


@pytest.mark.row("web-silent")
def test_a_web_that_does_not_answer(command: Command, tmp_path: Path) -> None:
    with running(tmp_path / "home"):
        done = command("runs")
    assert done.code == 4
    assert "Regie does not answer at 127.0.0.1:9." in done.err
