"""What the page about operations shows is so: its endpoint answers, and every metric named is there."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from async_comfy import Lane, Pool
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion
from tests.reader.page import blocks

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent / "docs"
PAGE = ROOT / "operations.md"
NAME = re.compile(r"\basync_comfy_[a-z_]+")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def promtool(*words: str, said: str | None = None) -> None:
    """Prometheus' own checker finds nothing wrong."""
    ended = subprocess.run(["promtool", *words], input=said, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not said or not ended.stdout + ended.stderr


def asked_by_the_dashboard() -> list[str]:
    """Its expressions."""
    dashboard = json.loads((ROOT / "operations" / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    rules = yaml.safe_load((ROOT / "operations" / "alerts.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


async def exposition() -> tuple[str, str]:
    """What the endpoint of the page says after a job, and of which type it is."""
    place: dict[str, Any] = {}
    exec(next(block.code for block in blocks(PAGE) if block.language == "python"), place)  # noqa: S102  # our own page
    async with SimulatedServer(load_s=0.1) as server, Pool([server.url], lanes=[Lane('a "b"\n')]) as pool:
        for seed in range(3):
            await pool.run(diffusion(seed, steps=1 + seed))

        runner = web.AppRunner(place["application"](pool))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            async with aiohttp.ClientSession() as client:
                answer = await client.get(f"http://127.0.0.1:{port}/metrics")
                return await answer.text(), answer.headers["Content-Type"]
        finally:
            await runner.cleanup()


async def test_every_metric_that_is_named_is_there() -> None:
    """In the page, the dashboard and the alerts; read with Prometheus' own parser."""
    text, kind = await exposition()
    assert kind.startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for family in families for sample in family.samples}
    known = samples | {family.name for family in families}
    assert all(family.documentation for family in families)
    assert {family.type for family in families} == {"gauge", "counter", "histogram"}

    asked = [*asked_by_the_dashboard(), *(rule["expr"] for rule in alerts())]
    for expression in asked:
        assert NAME.search(expression), expression
        assert set(NAME.findall(expression)) <= samples, expression
    assert set(NAME.findall(PAGE.read_text())) <= known
    assert {name for name in samples if name.startswith("async_comfy_")} == samples


async def test_lanes_are_told_apart_whatever_they_are_called() -> None:
    """Quotes and line breaks in a name come back as they were."""
    text, _ = await exposition()
    lanes = {
        sample.labels["lane"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "lane" in sample.labels
    }
    assert lanes == {'a "b"\n'}


def test_the_page_says_what_to_do_at_each_alert() -> None:
    """At those that there are, and no others."""
    there = {rule["alert"] for rule in alerts()}
    assert set(re.findall(r"`(Comfy\w+)`", PAGE.read_text())) == there


@needs_promtool
async def test_prometheus_likes_what_a_pool_says() -> None:
    """Names, types and units are as it recommends."""
    text, _ = await exposition()
    promtool("check", "metrics", said=text)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    """Not when all is idle, nor after a restart; and each in a story of its own."""
    stories = ROOT / "operations" / "alerts_test.yml"
    promtool("test", "rules", str(stories))
    told = yaml.safe_load(stories.read_text())["tests"]
    fired = {one["alertname"] for story in told for one in story["alert_rule_test"] if "exp_alerts" in one}
    assert fired == {rule["alert"] for rule in alerts()}


@needs_promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """Each expression, as a rule that records it."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(asked_by_the_dashboard())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_panels_do_not_lie_on_each_other() -> None:
    """Each has a place and an id of its own."""
    panels = json.loads((ROOT / "operations" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
