"""What the page about operations shows is so: its endpoint answers, and every metric named is there."""

import json
import re
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


async def exposition() -> tuple[str, str]:
    """What the endpoint of the page says after a job, and of which type it is."""
    place: dict[str, Any] = {}
    exec(next(block.code for block in blocks(PAGE) if block.language == "python"), place)  # noqa: S102  # our own page
    async with SimulatedServer(load_s=0.1) as server, Pool([server.url], lanes=[Lane('a "b"\n')]) as pool:
        for seed in range(3):
            await pool.run(diffusion(seed, steps=1 + seed))

        async def metrics(_request: web.Request) -> web.Response:
            return await place["metrics"](pool)  # type: ignore[no-any-return]  # what the page defines

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app)
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

    dashboard = json.loads((ROOT / "operations" / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((ROOT / "operations" / "alerts.yml").read_text())
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
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
