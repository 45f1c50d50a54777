"""Fleet files and discovery: what is read, what is refused in which words, who joins and who leaves."""

import asyncio
import os
from pathlib import Path

import pytest

from async_comfy import CallerError, ComfyError, Lost, Unreachable
from async_comfy._live import discovery, roster
from async_comfy._live.fleet import Fleet, Server
from async_comfy._live.pool import Pool
from async_comfy.protocol.lanes import Lane
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.pool.test_pool import name
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

WHOLE = """
depth = 1
ahead_s = 0.5

[[server]]
url = "http://gpu1:8188"
labels = ["24gb"]
lanes = ["video"]
models = 3
vram_gb = 24
bearer_env = "GPU1_TOKEN"

[[server]]
url = "https://gpu2/comfy"
name = "second"
basic_env = "GPU2_LOGIN"

[[lane]]
name = "video"
weight = 2
ceiling = 0.75
"""


def test_a_fleet_file_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers, lanes and limits; credentials come from the environment and are shown nowhere."""
    monkeypatch.setenv("GPU1_TOKEN", "hush")
    monkeypatch.setenv("GPU2_LOGIN", "me:open:sesame")
    (tmp_path / "fleet.toml").write_text(WHOLE)
    fleet = Fleet.load(tmp_path / "fleet.toml")
    first, second = fleet.servers
    assert (fleet.depth, fleet.ahead_s) == (1, 0.5)
    assert (first.name, first.labels) == ("gpu1:8188", frozenset({"24gb"}))
    assert first.lanes == frozenset({"video"})
    assert (first.models, first.vram_gb, first.options) == (3, 24, {"bearer": "hush"})
    assert (second.name, second.options) == ("second", {"basic": ("me", "open:sesame")})
    assert (fleet.lanes[0].weight, fleet.lanes[0].ceiling) == (2.0, 0.75)
    assert "hush" not in repr(fleet)
    assert "sesame" not in repr(fleet)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[server]]\nlabels = []", "server 1 has no url"),
        ('[[server]]\nurl = "http://a"\nlable = "x"', "Did you mean 'labels'"),
        ("[[server]]\nurl = 8188", "url is 8188; it must be text"),
        ('[[server]]\nurl = "ftp://a"', "server 1: That is no address"),
        ('[[server]]\nurl = "a"\nlabels = "24gb"', "labels must be a list"),
        ('[[server]]\nurl = "a"\nmodels = 0', "at least one set"),
        ('[[server]]\nurl = "a"\nbearer_env = "NOT_SET_ANYWHERE"', "no 'NOT_SET_ANYWHERE'"),
        ('[[server]]\nurl = "a"\n[[server]]\nurl = "a"', "two servers called"),
        ("[[lane]]\nweight = 1", "lane 1 has no name"),
        ('[[lane]]\nname = "x"\nweight = 0', "must be above 0"),
        ('[[lane]]\nname = "x"\nceiling = -1', "must be above 0"),
        ("[server]\n", "Begin each with [[server]]"),
        ('[[server]]\nurl = "a"\nvram_gb = -3', "vram_gb is -3"),
        ('[[server]]\nurl = "a"\nvram_gb = nan', "vram_gb is nan"),
        ("ahead_s = inf", "ahead_s a number of seconds"),
        ("depth = 0", "depth is at least 1"),
        ("depth = true", "depth is True"),
        ('[[server]]\nurl = "a"\ndrain = 1', "drain is 1; it must be true or false"),
        ("[[", "is no TOML"),
    ],
)
def test_a_wrong_entry_is_named_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    """One sentence: which file, which entry, what is wrong with it."""
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(CallerError) as error:
        Fleet.load(tmp_path / "fleet.toml")
    assert said in str(error.value)
    assert str(error.value).count("fleet.toml") == 1


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    """The mark at its beginning is no part of the text."""
    (tmp_path / "fleet.toml").write_bytes(b'\xef\xbb\xbf[[server]]\r\nurl = "http://gpu1:8188"\r\n')
    assert [server.name for server in Fleet.load(tmp_path / "fleet.toml").servers] == ["gpu1:8188"]


def test_a_server_takes_sets_and_refuses_a_text() -> None:
    """Whatever holds names will do; the letters of one name are none."""
    server = Server("gpu1", labels={"24gb"}, lanes=["image", "video"])  # type: ignore[arg-type]  # a list does
    assert (server.labels, server.lanes) == ({"24gb"}, {"image", "video"})
    with pytest.raises(CallerError, match="labels is '24gb'"):
        Server("gpu1", labels="24gb")  # type: ignore[arg-type]  # it is refused


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """No traceback of the operating system's."""
    with pytest.raises(CallerError, match="Cannot read"):
        Pool.from_file(tmp_path / "nowhere.toml")


async def test_a_pool_from_a_file_follows_it(tmp_path: Path) -> None:
    """What is added to the file joins, what is taken out is drained; a broken file changes nothing."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as first, SimulatedServer() as second:
        path.write_text(f'[[server]]\nurl = "{first.url}"\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path) as pool:
            await pool.run(picture(1))
            _rewrite(path, f'[[server]]\nurl = "{second.url}"\n')
            await pool.discover(look)
            await until(lambda: [s.name for s in pool.stats().servers] == [name(second)])
            assert (await pool.run(picture(2))).server.rstrip("/") == second.url
            _rewrite(path, "[[")
            await pool.discover(look)
            assert (await pool.run(picture(3))).files


def _rewrite(path: Path, text: str) -> None:
    """As an editor does; the time of change is moved on, since a clock tick may be coarse."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


async def test_servers_are_found_behind_a_name_and_by_a_call() -> None:
    """Every address of a host name is a server; a callable says what it likes, async or not."""
    found = await discovery.servers(discovery.behind("http://127.0.0.1:8188/comfy"))
    assert [server.name for server in found] == ["127.0.0.1:8188/comfy"]
    with pytest.raises(Unreachable, match="Cannot look up"):
        await discovery.servers(discovery.behind("http://no-such-host.invalid"))

    async def later() -> list[Server | str]:
        return ["gpu1:8188", "gpu1:8188", Server("gpu2:8188", "two")]

    names = [server.name for server in await discovery.servers(discovery.from_call(later))]
    assert names == ["gpu1:8188", "two"]
    assert len(await discovery.servers(discovery.from_call(lambda: ["gpu1:8188"]))) == 1


async def test_a_pool_may_begin_with_what_is_discovered() -> None:
    """Without named servers the first look tells them."""
    look = discovery.from_call(lambda: [server.url])
    async with SimulatedServer() as server, Pool(discover=look) as pool:
        assert (await pool.run(picture(4))).files


async def test_an_empty_answer_does_not_empty_the_fleet() -> None:
    """A discovery that fails or finds nobody leaves the servers that there are."""

    def broken() -> list[Server | str]:
        raise OSError("no answer")

    async with SimulatedServer() as server, Pool([server.url]) as pool:
        for look in (discovery.from_call(list), discovery.from_call(broken)):
            await pool.discover(look)
        assert (await pool.run(picture(5))).files


async def test_what_keeps_the_fleet_as_it_is_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that stays broken does not fill the log; broken anew, it is said anew."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as server:
        good = f'[[server]]\nurl = "{server.url}"\n'
        path.write_text(good)
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            for text in ("[[", "[[", good, "[[", "depth = 0", "depth = 0"):
                _rewrite(path, text)
                await pool.discover(look)
    said = [record.message for record in caplog.records if "stays as it is" in record.message]
    assert ["no TOML" in one for one in said] == [True, True, False]


async def test_a_drain_in_the_file_is_heeded_until_it_is_taken_back(tmp_path: Path) -> None:
    """`drain = true` gives a server nothing new and leaves it what it has; without, it takes jobs again."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as first, SimulatedServer() as second:
        plain = f'[[server]]\nurl = "{second.url}"\nname = "second"\n[[server]]\nurl = "{first.url}"\n'
        path.write_text(f'{plain}name = "first"\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            await until(lambda: _states(pool) == {"first": "probing", "second": "probing"})
            first.hold("prompt")
            held = await pool.submit(picture(1), server="first")
            await until(lambda: held.state == "queued")
            _rewrite(path, f'{plain}name = "first"\ndrain = true\n')
            await pool.discover(look)
            assert _states(pool)["first"] == "draining"
            waiting = await pool.submit(picture(2), server="first")
            for color in range(3, 6):
                assert (await pool.run(picture(color))).server.rstrip("/") == second.url
            first.release()
            await held
            assert waiting.state == "waiting"
            _rewrite(path, f'{plain}name = "first"\n')
            await pool.discover(look)
            assert (await waiting).server.rstrip("/") == first.url
            assert [server.name for server in pool.stats().servers] == ["second", "first"]


async def test_a_drained_server_that_leaves_the_file_leaves_the_pool(tmp_path: Path) -> None:
    """Draining, then taken out: it goes."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as first, SimulatedServer() as second:
        kept = f'[[server]]\nurl = "{second.url}"\nname = "second"\n'
        path.write_text(f'{kept}[[server]]\nurl = "{first.url}"\nname = "first"\ndrain = true\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            await pool.discover(look)
            _rewrite(path, kept)
            await pool.discover(look)
            await until(lambda: list(_states(pool)) == ["second"])


async def test_labels_lanes_and_limits_change_at_once(tmp_path: Path) -> None:
    """A job that asks for a label waits for nobody any more when a server is given it; lanes come and go."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as server:
        head = f'[[server]]\nurl = "{server.url}"\nname = "one"\n'
        path.write_text(head)
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            with pytest.raises(CallerError, match="labels big"):
                await pool.submit(picture(1), labels=["big"])
            lanes = '[[lane]]\nname = "image"\n[[lane]]\nname = "video"\nceiling = 1\n'
            _rewrite(path, f'depth = 3\n{head}labels = ["big"]\nlanes = ["image"]\nmodels = 5\n{lanes}')
            await pool.discover(look)
            assert (await pool.run(picture(2), labels=["big"])).files
            with pytest.raises(CallerError, match="takes no jobs of lane 'video'"):
                await pool.submit(picture(3), lane="video")
            _rewrite(path, head)
            await pool.discover(look)
            with pytest.raises(CallerError, match="no lane 'image'"):
                await pool.submit(picture(4), lane="image")
            assert (await pool.run(picture(5))).files


async def test_another_address_or_credential_is_used_once_the_old_one_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry's name stays, what runs there ends there, and what waits for it goes to the new address."""
    monkeypatch.setenv("NEW_TOKEN", "hush")
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as old, SimulatedServer() as new:
        path.write_text(f'[[server]]\nurl = "{old.url}"\nname = "one"\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            old.hold("prompt")
            first = await pool.submit(picture(1))
            await until(lambda: first.state == "queued")
            second = await pool.submit(picture(2), server="one")
            _rewrite(path, f'[[server]]\nurl = "{new.url}"\nname = "one"\nbearer_env = "NEW_TOKEN"\n')
            await pool.discover(look)
            await pool.discover(look)  # a further look meanwhile changes nothing
            assert not first.done
            old.release()
            assert (await first).server.rstrip("/") == old.url
            assert (await second).server.rstrip("/") == new.url
            assert new.requests[-1].headers["Authorization"] == "Bearer hush"
            assert old.open_sockets == 0
            assert "hush" not in repr(pool.stats())


async def test_a_drain_by_a_call_outlives_a_new_address(tmp_path: Path) -> None:
    """What was drained by hand is not given jobs because its entry changed; `resume` takes it back."""
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as old, SimulatedServer() as new, SimulatedServer() as other:
        plain = f'[[server]]\nurl = "{other.url}"\nname = "other"\n[[server]]\nname = "one"\nurl = '
        path.write_text(f'{plain}"{old.url}"\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            await until(lambda: _states(pool) == {"other": "probing", "one": "probing"})
            await pool.drain("one")
            _rewrite(path, f'{plain}"{new.url}"\n')
            await pool.discover(look)
            await new.until(lambda: new.open_sockets)
            assert _states(pool)["one"] == "draining"
            pool.resume("one")
            assert (await pool.run(picture(1), server="one")).server.rstrip("/") == new.url


async def test_jobs_at_an_address_that_is_gone_do_not_keep_the_new_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old address does not answer and its entry names another: what had not begun goes there."""
    monkeypatch.setattr(roster, "MOVING_S", 0.1)
    path = tmp_path / "fleet.toml"
    async with SimulatedServer() as old, SimulatedServer() as new:
        path.write_text(f'[[server]]\nurl = "{old.url}"\nname = "one"\n')
        look = discovery.in_file(path)
        async with Pool.from_file(path, follow=False) as pool:
            old.hold("prompt")
            job = await pool.submit(picture(1))
            await until(lambda: job.state == "queued")
            await old.crash()
            _rewrite(path, f'[[server]]\nurl = "{new.url}"\nname = "one"\n')
            await pool.discover(look)
            assert (await job).server.rstrip("/") == new.url


def _states(pool: Pool) -> dict[str, str]:
    return {server.name: server.state for server in pool.stats().servers}


@pytest.mark.parametrize("when", ["at once", "on its way", "queued"])
async def test_what_is_taken_out_at_once_is_stopped_before_it_goes_elsewhere(when: str) -> None:
    """Without draining: what a server has is taken back from it, wherever it is, and runs exactly once."""
    async with SimulatedServer() as gone, SimulatedServer() as kept, Pool([gone.url, kept.url]) as pool:
        kept.hold("prompt")
        filler = await pool.submit(picture(1), server=name(kept))
        gone.hold("prompt")
        if when == "on its way":
            gone.faults.slow(("POST", "/prompt"), 0.2)
        job = await pool.submit(picture(2))
        assert job.server == name(gone)
        if when == "on its way":
            await gone.until(lambda: gone.requests.count("POST", "/prompt"))
        elif when == "queued":
            await until(lambda: job.state == "queued")
        await pool.remove(name(gone), drain=False)
        kept.release()
        assert (await job).server.rstrip("/") == kept.url
        await filler
        gone.release()
        await gone.until_idle()
    assert not gone.executions
    assert [attempt.begun for attempt in job.attempts] == [False, True]


async def test_what_ran_where_a_server_is_taken_out_is_stopped_there() -> None:
    """Begun, and its policy allows another run: only once the first is over."""
    async with SimulatedServer() as gone, SimulatedServer() as kept, Pool([gone.url, kept.url]) as pool:
        kept.hold("prompt")
        filler = await pool.submit(picture(1), server=name(kept))
        gone.hold("node")
        job = await pool.submit(picture(2), retry="if_lost")
        await gone.until_at("node")
        leaving = asyncio.create_task(pool.remove(name(gone), drain=False))
        await gone.until(lambda: any("cancel" in request.path for request in gone.requests))
        gone.release()
        await leaving
        kept.release()
        await asyncio.gather(job, filler)
        first = gone.history(job.attempts[0].prompt_id)
    assert first is not None
    assert first["status"]["status_str"] == "error"  # interrupted


async def test_what_waits_for_a_server_that_is_taken_out_is_told_so() -> None:
    """It never began, and it may be submitted again: that is what it says."""
    async with SimulatedServer() as gone, SimulatedServer() as kept, Pool([gone.url, kept.url]) as pool:
        gone.hold("prompt")
        first = await pool.submit(picture(1), server=name(gone))
        second = await pool.submit(picture(2), server=name(gone))
        leaving = [asyncio.create_task(pool.remove(name(gone))) for _ in range(2)]
        await until(lambda: _states(pool)[name(gone)] == "draining")
        gone.release()
        await asyncio.gather(*leaving, first)
        with pytest.raises(Lost, match="taken out of the pool") as lost:
            await second
        assert "Submit it again" in lost.value.hint


async def test_servers_are_known_by_what_people_write() -> None:
    """A URL with and without a slash, in capitals, with a password; a host that is two servers is neither."""
    async with SimulatedServer() as one, SimulatedServer() as two, Pool([one.url, two.url]) as pool:
        written = (one.url, f"{one.url}/", f"HTTP://{name(one)}", one.url.replace("//", "//me:hush@"))
        for url in written:
            assert (await pool.run(picture(1), server=url)).server.rstrip("/") == one.url
        with pytest.raises(CallerError, match="may be any of"):
            await pool.submit(picture(2), server="127.0.0.1")
        with pytest.raises(CallerError, match="There is no server") as unknown:
            await pool.submit(picture(3), server=f"http://me:hush@{name(one)}/x")
        assert f"Did you mean '{name(one)}'?" in str(unknown.value)
        assert "hush" not in str(unknown.value)


@pytest.mark.parametrize(
    "stats",
    ['{"devices": 5}', '{"devices": [{"vram_total": 1e400}]}', '{"devices": [{"vram_total": -5}]}', "[1]"],
)
async def test_odd_numbers_of_a_server_keep_nobody_away(stats: str) -> None:
    """/system_stats that says nothing sensible says nothing: the server takes jobs."""
    json = {"Content-Type": "application/json"}
    async with SimulatedServer() as server:
        server.faults.answer(("GET", "/system_stats"), 200, stats, headers=json, times=10)
        async with asyncio.timeout(10), Pool([server.url]) as pool:
            assert (await pool.run(picture(1))).files
            assert pool.stats().servers[0].vram_bytes == 0


async def test_an_option_that_no_session_has_is_told() -> None:
    """Opening says which, and does not wait for ever."""
    async with SimulatedServer() as server, asyncio.timeout(10):
        with pytest.raises(ComfyError, match="unexpected keyword argument 'bearrer'"):
            await Pool([server.url], options={"bearrer": "hush"}).open()


async def test_a_discovery_that_finds_nobody_is_told_when_opening() -> None:
    """There is nothing to wait for."""
    async with asyncio.timeout(10):
        with pytest.raises(Unreachable, match="found no server"):
            await Pool(discover=discovery.from_call(list)).open()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"servers": "http://gpu1:8188"}, "are a list"),
        ({"depth": 0}, "depth is at least 1"),
        ({"ahead_s": float("nan")}, "ahead_s at least 0"),
        ({"lanes": [Lane("image"), Lane("image")]}, "Two lanes"),
    ],
    ids=["one address", "no depth", "no number", "one name twice"],
)
def test_odd_pools_are_refused(wrong: dict[str, object], said: str) -> None:
    """One sentence, before anything is connected."""
    with pytest.raises(CallerError, match=said):
        Pool(**{"servers": ["http://gpu1:8188"], **wrong})  # type: ignore[arg-type]  # it is refused
