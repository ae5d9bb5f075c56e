"""A real Prometheus that scrapes one server every second."""

import json
import math
import pathlib
import shutil
import urllib.parse

from . import wire
from .processes import free_port
from .server import Program


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing; `scripts/setup.sh test` installs it"
    return found


class Prometheus(Program):
    def __init__(self, folder: pathlib.Path, target_port: int):
        self.port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "mlx", "static_configs": [
                {"targets": [f"127.0.0.1:{target_port}"]}]}]}))
        super().__init__("prometheus", [
            tool("prometheus"), f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"],
            folder)

    def values(self, expression: str) -> list[float]:
        """The finite values that the query gives now; none while Prometheus starts."""
        query = urllib.parse.quote(expression, safe="")
        try:
            reply = wire.request(self.port, "GET", f"/api/v1/query?query={query}")
        except OSError:
            return []
        if reply.status == 503:
            return []
        assert reply.status == 200, (expression, reply.body)
        samples = [float(one["value"][1]) for one in reply.json["data"]["result"]]
        return [value for value in samples if math.isfinite(value)]

    def sum(self, expression: str) -> float:
        return sum(self.values(expression))
