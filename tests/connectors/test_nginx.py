"""nginx, real, with certificates put in place while clients connect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regie.core.errors import Refused, RegieError
from regie_sandbox.servers.authority import Issued
from regie_sandbox.servers.nginx import nginx

from .deploying import NAME, TARGET, Deploying, Site

pytestmark = pytest.mark.slow


class TestNginx(Deploying):
    program = "/usr/sbin/nginx"

    def serving(self, folder: Path, first: Issued) -> Iterator[Site]:
        with nginx(folder, first, name=NAME, target=TARGET) as server:
            yield Site.of("nginx", server, "-t", "-q", "-c")

    async def no_reload(self, site: Site) -> RegieError:
        pid = site.config.parent / "nginx.pid"
        kept = pid.read_text()
        pid.unlink()
        try:
            with pytest.raises(Refused, match="nginx does not reload") as caught:
                await site.deploy(site.issue())
        finally:
            pid.write_text(kept)
        assert caught.value.code == "reload"
        return caught.value
