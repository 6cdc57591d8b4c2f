"""`python -m bench.watching`: the daily look of the domain certificates at thousands of endpoints, by a whole Regie.

The same farm as in `bench.tls`, listed in a connection of the demo's customer; the workflow `certificates.watch` goes
through it page by page, twice: the first look makes the inventory and tells people, the second finds it as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench.tls import farm
from regie.cli.demo_world import TENANT, up_demo
from regie.cli.installation import Installation
from regie.cli.running import Services
from regie.cli.story import Story, telling
from regie.core.capabilities.tls import Endpoint
from regie.settings import Settings
from regie.store import records

WATCHED = ("worker-certificates-1", "gateway", "web")
LOOK_S = 0.5


def write_endpoints(services: Services, folder: Path, endpoints: list[Endpoint]) -> None:
    """Have the customer list the farm, and manage nothing of it."""
    file = services.settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
    tenant = yaml.safe_load(file.read_text(encoding="utf-8"))
    its = tenant["connections"]["endpoints"]["settings"]
    its["endpoints"] = [each.model_dump(mode="json", exclude_defaults=True) for each in endpoints]
    its["roots"] = (folder / "roots.pem").read_text()
    tenant["settings"]["certificates"]["managed"] = {}
    file.write_text(yaml.safe_dump(tenant, sort_keys=False), encoding="utf-8")


def memory_mb(services: Services) -> dict[str, float]:
    """What the processes have in memory now (VmRSS of proc_pid_status(5))."""
    found = {}
    for process in services.supervisor.processes:
        if process.name in WATCHED and process.pid:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
            found[process.name] = int(line.split()[1]) / 1024
    return found


def used_s(services: Services) -> dict[str, float]:
    """Seconds of a core that the processes have used so far (proc_pid_stat(5), fields 14 and 15)."""
    found = {}
    for process in services.supervisor.processes:
        if process.name in WATCHED and process.pid:
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[process.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


async def look(story: Story) -> dict[str, Any]:
    """One look at everything: how long it took, and the most memory of each process before and meanwhile."""
    before, used = memory_mb(story.services), used_s(story.services)
    most = dict(before)
    began_s = time.monotonic()
    run = await story.start("certificates.watch", {})
    while not (await story.operator.get(f"/v1/runs/{run}"))["outcome"]:
        for name, now in memory_mb(story.services).items():
            most[name] = max(most[name], now)
        await asyncio.sleep(LOOK_S)
    runs = await story.everything_over(says_yes=True)
    took_s = time.monotonic() - began_s
    return {
        "seconds": took_s,
        "before": before,
        "most": most,
        "used": {name: now - used[name] for name, now in used_s(story.services).items()},
        "runs": len(runs),
        "failed": sum(each["status"] == "failed" for each in runs),
    }


async def measure(folder: Path, endpoints: list[Endpoint], console: Console) -> None:
    """Start everything, and look twice."""
    settings = Settings(home=folder / "home", port=0, database_url="", workspace=None)
    async with (
        up_demo(settings, console.print, domain="certificates") as services,
        telling(services) as story,
    ):
        write_endpoints(services, folder, endpoints)
        installation = Installation(services.settings, console.print)
        async with installation.database() as database:
            await installation.load(database)
            for number in ("first", "second"):
                done = await look(story)
                async with database.reading() as tx:
                    counts = await records.count(tx, "certificates", "certificate", [TENANT])
                console.print(
                    f"{number} look: {sum(counts.values())} endpoints in {done['seconds']:.1f} s, "
                    f"{done['runs']} runs, {done['failed']} failed; {counts}"
                )
                for name, most in done["most"].items():
                    console.print(
                        f"  {name}: {most:.0f} MB at most, {done['before'][name]:.0f} before; "
                        f"{done['used'][name]:.1f} s of a core"
                    )


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=5000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, farm(Path(name), given.endpoints) as endpoints:
        asyncio.run(measure(Path(name), endpoints, Console(width=200)))


if __name__ == "__main__":
    main()
