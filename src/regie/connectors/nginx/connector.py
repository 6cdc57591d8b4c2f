"""nginx: a certificate is one file, which its configuration names twice. Only the gateway constructs it.

Contract: nginx.org/en/docs/http/configuring_https_servers.html, "The private key may alternately be stored in the same
file as the certificate", and nginx.org/en/docs/control.html for what a reload does.
"""

from __future__ import annotations

from regie.core.capabilities import certificate
from regie.kit.connector import Connector, provides
from regie.kit.deployment import DeployPemFile, FindPemFile, PemFile

LOOKING = ["connect to the addresses of targets", "read FOLDER/*"]
PUTTING = [*LOOKING, "run nginx -s reload", "run nginx -t", "write FOLDER/*"]

_TRIAL = """pid /dev/null;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{ listen unix:{folder}/.trial.sock ssl; ssl_certificate {fresh}; ssl_certificate_key {fresh}; }}
}}
"""
"""Nothing in it needs a right beyond the folder, so that nobody becomes root to try out what we wrote."""


class Nginx(Connector):
    """Certificates of nginx's TLS servers."""

    @provides(certificate.FIND_DEPLOYED, permissions=LOOKING)
    class FindDeployed(FindPemFile):
        """Look what nginx serves for a target."""

    @provides(certificate.DEPLOY, permissions=PUTTING, undo=certificate.DEPLOY)
    class Deploy(DeployPemFile):
        """Put a certificate in place, and have nginx reload."""

        async def try_out(self, pem_file: PemFile) -> None:
            """Test a configuration of nothing but the fresh certificate. See `DeployPemFile.try_out`."""
            trial = _TRIAL.format(folder=pem_file.folder, fresh=pem_file.fresh)
            await self.host.write(f"{pem_file.folder}/.trial.conf", trial.encode())
            await self.expect(
                "try", "nginx cannot load the new certificate, and nothing was changed", code="not-accepted"
            )

        async def serve(self, pem_file: PemFile) -> None:  # noqa: ARG002  nginx reads all its files again
            """Test the configuration, and reload. See `DeployPemFile.serve`."""
            await self.expect("test", "the configuration of nginx does not pass its test", code="config-test")
            await self.expect("reload", "nginx does not reload", code="reload")
