"""Every query of every dashboard returns data from a real Prometheus that scraped a real run."""

import concurrent.futures
import json
import pathlib
import re

import pytest

from support.processes import repository, wait_until
from support.prometheus import Prometheus
from support.server import Serve

DASHBOARDS = sorted((repository() / "docs/dashboards").glob("*.json"))
METRIC = re.compile(r"\b((?:mlx_|gen_ai_)[a-z_]+)\b(?!=)")


def queries(dashboard: pathlib.Path) -> dict[str, str]:
    """Expression by the panel and letter under which it stands."""
    panels = json.loads(dashboard.read_text())["panels"]
    return {f"{panel['title']} {target['refId']}": target["expr"]
            for panel in panels for target in panel["targets"]}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_can_import_it(dashboard: pathlib.Path):
    """What Grafana's importer and migrations rely on, as far as it can be told without one."""
    board = json.loads(dashboard.read_text())

    # 36 made data sources objects; from there on panels are as these.
    assert isinstance(board["schemaVersion"], int) and board["schemaVersion"] >= 36
    assert board["title"] and re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"])
    assert board.get("id") is None, "an id belongs to one Grafana only"
    assert {"from", "to"} <= board["time"].keys()
    assert isinstance(board["annotations"]["list"], list)
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities) and all(type(one) is int for one in identities)
    for panel in board["panels"]:
        assert panel["type"] in ("stat", "timeseries", "heatmap", "table"), panel["title"]
        assert {"defaults", "overrides"} <= panel["fieldConfig"].keys(), panel["title"]
        assert {"x", "y", "w", "h"} == panel["gridPos"].keys(), panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters), panel["title"]
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    assert used <= variables.keys() | {"__rate_interval", "__all"}, used


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_name_documented_metrics(dashboard: pathlib.Path):
    documented = (repository() / "docs/metrics.md").read_text()
    panels = json.loads(dashboard.read_text())["panels"]
    taken: set[tuple[int, int]] = set()

    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    for expression in queries(dashboard).values():
        for name in METRIC.findall(expression):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert f"`{family}`" in documented or f"`{name}`" in documented, expression


def make_traffic(server: Serve, turn: int) -> None:
    """Misses, dedups, hits, coalesced answers, evictions."""
    greedy = {"temperature": 0, "max_tokens": 3}
    for text in (f"one {turn}", f"two {turn}", f"three {turn}", f"three {turn}"):
        assert server.chat_shared(text, **greedy).status == 200
    # Without dedup the prompt cache serves what was answered just now.
    server.set_feature("dedup", False)
    assert server.chat_shared(f"three {turn}", **greedy).headers["x-mlx-cache"] == "hit"
    server.set_feature("dedup", True)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        same = [pool.submit(server.chat_shared, f"together {turn}", temperature=0, max_tokens=30)
                for _ in range(4)]
    assert all(one.result().status == 200 for one in same)


def test_every_query_of_cache_and_coalescing_has_data(start_server, tmp_path: pathlib.Path):
    server = start_server(sets=("prompt_cache.entries=4",)).wait_ready()
    expressions = queries(repository() / "docs/dashboards/cache_and_coalescing.json")
    with Prometheus(tmp_path, server.admin_port) as prometheus:
        wait_until("Prometheus scrapes", lambda: prometheus.values("mlx_cache_entries"))
        turns = 0

        def without_data() -> list[str]:
            nonlocal turns
            turns += 1
            make_traffic(server, turns)
            return [name for name, expression in expressions.items()
                    if not prometheus.values(expression.replace("$__rate_interval", "30s"))]

        wait_until("every panel has data", lambda: not without_data(), 200)

        # What a turn brings depends on how its requests meet, so some more may be needed.
        seen = [f'mlx_cache_requests_total{{layer="{layer}",result="{result}"}}'
                for layer, result in (("coalescing", "coalesced"), ("dedup", "dedup"),
                                      ("prompt_cache", "hit"))]
        seen += ['mlx_cache_evictions_total{reason="entries"}', "mlx_saved_tokens_total"]

        def all_seen() -> bool:
            without_data()
            return all(prometheus.sum(one) > 0 for one in seen)

        wait_until("every way of sharing is seen", all_seen, 200)
