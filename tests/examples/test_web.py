"""The web example over HTTP: what a page would ask of it, and what an unkind visitor would."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from async_comfy.testing import SimulatedServer
from tests.examples.conftest import serving
from tests.examples.stream import heard

WISH = {"prompt": "a red fox in snow", "steps": 4, "width": 512, "height": 256}


@pytest.fixture
def visitor(web: str) -> Iterator[httpx.Client]:
    """Somebody who speaks HTTP."""
    with httpx.Client(base_url=web, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def unkind() -> Iterator[httpx.Client]:
    """A visitor whose requests never reach the ComfyUI; all of them share one app, which must live on."""
    with SimulatedServer().in_thread() as comfy, serving(comfy.url) as url:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield client
        assert comfy.requests.count("POST", "/prompt") == 0


def ordered(visitor: httpx.Client, **wish: Any) -> dict[str, str]:
    answer = visitor.post("/generate", json={**WISH, **wish})
    assert answer.status_code == 202, answer.text
    order: dict[str, str] = answer.json()
    return order


def until(name: str, news: Iterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    told = [next(news)]
    while told[-1][0] != name:
        told.append(next(news))
    return told


def followed(visitor: httpx.Client, order: dict[str, str]) -> list[tuple[str, Any]]:
    with visitor.stream("GET", order["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return list(heard(stream))


def test_a_wish_becomes_a_picture(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """Posted, followed step by step with a preview each, and fetched in the size that was asked for."""
    comfy.hold("step")
    order = ordered(visitor, seed=7)
    told: list[tuple[str, Any]] = []
    with visitor.stream("GET", order["events"]) as stream:
        news = heard(stream)
        for _ in range(4):
            comfy.advance()
            told += until("preview", news)
        comfy.release()
        told += news
    steps = [data["step"] for name, data in told if name == "progress" and data["title"] == "KSampler"]
    assert steps[:4] == [0, 1, 2, 3]
    fractions = [data["fraction"] for name, data in told if name == "progress"]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 5
    previews = {data for name, data in told if name == "preview"}
    assert len(previews) == 4
    assert all(preview.startswith("data:image/jpeg;base64,/9j/") for preview in previews)
    name, made = told[-1]
    assert (name, made["seed"]) == ("done", 7)
    answer = visitor.get(made["images"][0])
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (512, 256)


def test_the_wish_reaches_the_server_as_it_was_made(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """Prompt, size, steps and seed stand in the workflow that was sent; a prompt is text, always."""
    prompt = '<script>alert("1")</script> \N{FOX FACE} {} "quoted"\nand a second line'
    order = ordered(visitor, prompt=prompt, negative="", seed=2**53 - 1)
    followed(visitor, order)
    entry = comfy.history(order["id"])
    assert entry is not None
    sent = {node["_meta"]["title"]: node["inputs"] for node in entry["prompt"][2].values()}
    assert sent["Positive Prompt"]["text"] == prompt
    assert (sent["KSampler"]["steps"], sent["KSampler"]["seed"]) == (4, 2**53 - 1)
    assert (sent["Empty Latent Image"]["width"], sent["Empty Latent Image"]["height"]) == (512, 256)


def test_the_events_of_a_finished_job_can_be_had_again(visitor: httpx.Client) -> None:
    """A browser that comes back late hears the end at once."""
    order = ordered(visitor)
    assert followed(visitor, order)[-1] == followed(visitor, order)[-1]
    assert followed(visitor, order)[-1][0] == "done"


def test_all_visitors_share_one_socket(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """Three jobs, one connection to the ComfyUI."""
    for order in [ordered(visitor, seed=seed) for seed in range(3)]:
        assert followed(visitor, order)[-1][0] == "done"
    assert comfy.connections == 1


def test_a_visitor_who_goes_away_takes_the_job_along(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """The stream is cut while the job runs: it is interrupted at the server, and the next one runs."""
    comfy.hold("node")
    order = ordered(visitor)
    comfy.wait(lambda: comfy.running == [order["id"]])
    with visitor.stream("GET", order["events"]) as stream:
        next(heard(stream))
    comfy.wait(lambda: comfy.history(order["id"]) is not None)
    assert outcome(comfy, order) == "execution_interrupted"
    comfy.release()
    assert followed(visitor, ordered(visitor))[-1][0] == "done"


def test_a_job_that_nobody_comes_to_watch_is_cancelled(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """Its page was closed between the POST and the events."""
    comfy.hold("node")
    order = ordered(visitor)
    comfy.wait(lambda: comfy.history(order["id"]) is not None)
    assert outcome(comfy, order) == "execution_interrupted"


def test_a_job_is_not_cancelled_while_another_page_watches_it(
    comfy: SimulatedServer, visitor: httpx.Client
) -> None:
    """One of two watchers leaves; the job ends well for the other."""
    comfy.hold("node")
    order = ordered(visitor)
    with visitor.stream("GET", order["events"]) as staying:
        news = heard(staying)
        next(news)
        with visitor.stream("GET", order["events"]) as leaving:
            next(heard(leaving))
        other = ordered(visitor, seed=1)  # left alone from now on: it goes when the grace of both is over
        comfy.wait(lambda: comfy.queue_remaining == 1)
        assert comfy.running == [order["id"]]
        assert comfy.history(other["id"]) is None
        comfy.release()
        assert [name for name, _ in news][-1] == "done"


def test_delete_cancels_this_job_and_no_other(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """The one that waits goes, the one that runs stays; who watches is told."""
    comfy.hold("node")
    runs, waits = ordered(visitor), ordered(visitor, seed=1)
    comfy.wait(lambda: comfy.running == [runs["id"]])
    with visitor.stream("GET", runs["events"]) as stream:
        news = heard(stream)
        next(news)
        assert visitor.delete(f"/jobs/{waits['id']}").status_code == 204
        name, told = followed(visitor, waits)[-1]
        assert (name, told["outcome"]) == ("failed", "cancelled")
        comfy.release()
        assert [name for name, _ in news][-1] == "done"
    assert waits["id"] not in comfy.executions


def test_stopping_the_app_cancels_what_is_open(comfy: SimulatedServer) -> None:
    """Nobody could ask for it any more, so the server need not make it."""
    comfy.hold("node")
    with serving(comfy.url) as url:
        httpx.post(f"{url}/generate", json=WISH, trust_env=False).raise_for_status()
        comfy.wait(lambda: len(comfy.running) == 1)
    assert comfy.queue_remaining == 0


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"steps": 61}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"width": 1000000}, "width"),
        ({"height": 257}, "height"),
        ({"seed": -1}, "seed"),
        ({"filename_prefix": "../../x"}, "filename_prefix"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(unkind: httpx.Client, wish: dict[str, Any], says: str) -> None:
    """422, and a sentence that names the field."""
    answer = unkind.post("/generate", json={**WISH, **wish})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"{says}: ")


@pytest.mark.parametrize("body", [b"nonsense", b'{"prompt": "\\ud800"}', b"[]", b"\xff", b""])
def test_what_is_not_a_wish_at_all_is_refused(unkind: httpx.Client, body: bytes) -> None:
    """400 or 422 with a sentence, never a 500."""
    answer = unkind.post("/generate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.json()["error"]


def test_a_form_of_another_site_cannot_order(unkind: httpx.Client) -> None:
    """Browsers send such a body across sites without asking; only application/json is taken."""
    answer = unkind.post("/generate", content=json.dumps(WISH), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(unkind: httpx.Client, chunked: bool) -> None:
    """413, whether it says its length or not."""
    body = b" " * 40_000
    answer = unkind.post(
        "/generate",
        content=iter([body[:20_000], body[20_000:]]) if chunked else body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert "bytes at most" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/unknown/events",
        "/jobs/unknown/images/0",
        "/jobs/..%2f..%2fapp.py/images/0",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/.%2e/orders.py",
    ],
)
def test_paths_lead_nowhere_else(unkind: httpx.Client, path: str) -> None:
    """404 in the form of every error."""
    answer = unkind.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_a_picture_that_was_not_made_is_not_there(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """404 while it is made, before the first and long after the last."""
    comfy.hold("node")
    order = ordered(visitor)
    assert visitor.get(f"/jobs/{order['id']}/images/0").status_code == 404
    comfy.release()
    followed(visitor, order)
    assert visitor.get(f"/jobs/{order['id']}/images/0").status_code == 200
    for index in (1, -1, 10**20):
        assert visitor.get(f"/jobs/{order['id']}/images/{index}").status_code == 404


def test_a_failure_is_told_in_a_sentence(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """The server dies while it works: the page hears what became of its job."""
    comfy.hold("node")
    order = ordered(visitor)
    with visitor.stream("GET", order["events"]) as stream:
        news = heard(stream)
        next(news)
        comfy.wait(lambda: comfy.at == "node")
        comfy.call(comfy.restart())
        *_, (name, told) = news
    assert (name, told["outcome"]) == ("failed", "lost")
    assert told["error"].endswith(".")


def test_a_server_that_is_away_is_told_of(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """503 and a sentence without its address; the app lives on and serves again when the server is back."""
    comfy.call(comfy.crash())
    answer = visitor.post("/generate", json=WISH)
    assert answer.status_code == 503
    assert answer.json() == {"error": "The picture server went away.", "hint": "Ask again in a minute."}
    comfy.call(comfy.restart())
    comfy.wait(lambda: comfy.open_sockets == 1)
    assert followed(visitor, ordered(visitor))[-1][0] == "done"


def test_places_are_bounded(comfy: SimulatedServer, visitor: httpx.Client) -> None:
    """The 33rd open job is refused, and has not reached the server."""
    comfy.hold("prompt")
    for seed in range(32):
        ordered(visitor, seed=seed)
    answer = visitor.post("/generate", json=WISH)
    assert answer.status_code == 503
    assert "places" in answer.json()["error"]
    assert comfy.requests.count("POST", "/prompt") == 32


def test_the_page_trusts_its_own_files_alone(unkind: httpx.Client) -> None:
    """No script or style is inline or from elsewhere, and the browser is told to refuse any."""
    page = unkind.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert "innerHTML" not in unkind.get("/page.js").text


def outcome(comfy: SimulatedServer, order: dict[str, str]) -> str:
    entry = comfy.history(order["id"])
    assert entry is not None
    last: str = entry["status"]["messages"][-1][0]
    return last
