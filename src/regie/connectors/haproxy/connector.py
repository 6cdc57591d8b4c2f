"""HAProxy: a certificate is one file, replaced in the running process over its socket. Only the gateway constructs it.

Contract: HAProxy's management guide, "set ssl cert" and "commit ssl cert" (9.3), and its configuration manual, "crt"
(5.1). A reload would lose nothing either, but leaves an old process behind for as long as one of its connections lasts.
"""

from __future__ import annotations

from regie.core.capabilities import certificate
from regie.core.errors import Refused
from regie.kit.connector import Connector, provides
from regie.kit.deployment import DeployPemFile, FindPemFile, PemFile
from regie.kit.host import Stored

LOOKING = ["connect to the addresses of targets", "read FOLDER/*"]
PUTTING = [*LOOKING, "run haproxy -c", "stats socket level admin", "write FOLDER/*"]

_TRIAL = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend trial
    bind 127.0.0.1:1 ssl crt {fresh}
"""


class Haproxy(Connector):
    """Certificates of HAProxy's TLS frontends."""

    @provides(certificate.FIND_DEPLOYED, permissions=LOOKING)
    class FindDeployed(FindPemFile):
        """Look what HAProxy serves for a target."""

    @provides(certificate.DEPLOY, permissions=PUTTING, undo=certificate.DEPLOY)
    class Deploy(DeployPemFile):
        """Put a certificate in place, and in the running process."""

        async def try_out(self, pem_file: PemFile) -> None:
            """Test a configuration of nothing but the fresh certificate. See `DeployPemFile.try_out`."""
            trial = _TRIAL.format(fresh=pem_file.fresh)
            await self.host.write(f"{pem_file.folder}/.trial.cfg", trial.encode())
            await self.expect(
                "try", "HAProxy cannot load the new certificate, and nothing was changed", code="not-accepted"
            )

        async def serve(self, pem_file: PemFile) -> None:
            """Test the configuration, and replace the certificate in memory. See `DeployPemFile.serve`."""
            await self.expect("test", "the configuration of HAProxy does not pass its test", code="config-test")
            path = pem_file.live
            # What a cut-off attempt has left open would be mixed with ours, whichever file it was about.
            for other in (path, *self._others(pem_file)):
                await self.host.ask("socket", f"abort ssl cert {other}\n".encode())
            # An empty line ends what is sent (9.3, payload).
            said = await self.host.ask("socket", f"set ssl cert {path} <<\n".encode(), Stored(path), b"\n")
            if f"for certificate {path}!" not in said:
                raise self._refusal("HAProxy does not know the file of this target, or cannot read it", "unknown-file")
            said = await self.host.ask("socket", f"commit ssl cert {path}\n".encode())
            if "Success!" not in said:
                await self.host.ask("socket", f"abort ssl cert {path}\n".encode())
                raise self._refusal("HAProxy does not take the new certificate", "reload")

        def _others(self, pem_file: PemFile) -> list[str]:
            targets = self.settings["targets"]
            names = targets if isinstance(targets, dict) else ()
            return [f"{pem_file.folder}/{name}.pem" for name in names if name != pem_file.target]

        def _refusal(self, what: str, code: str) -> Refused:
            return Refused(what, status=0, code=code, hint="`show ssl cert` over its socket tells which files it has.")
