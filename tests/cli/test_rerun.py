"""`rerun`: makes again what made a picture."""

from collections.abc import Callable

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_run import seeds_posted
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


@pytest.fixture
def image(shell: Shell, workflow_file: WriteFile) -> str:
    """A picture that was made with seed 42."""
    return shell.type("run", workflow_file(diffusion(seed=42)), "--name", "fox").out.strip()


def test_the_same_picture_comes_out(shell: Shell, image: str, comfy_server: SimulatedServer) -> None:
    """The same prompt with the same seeds, which are told; the first picture stays."""
    ended = shell.type("rerun", image, "--name", "again")

    assert (ended.code, ended.out) == (0, "output/again.png\n")
    assert "seed 5.seed=42" in ended.err.splitlines()
    first, second = (request.json for request in comfy_server.requests if request.path == "/prompt")
    assert first["prompt"] == second["prompt"]
    assert (shell.folder / image).read_bytes() == (shell.folder / "output/again.png").read_bytes()


def test_another_seed_can_be_given(shell: Shell, image: str, comfy_server: SimulatedServer) -> None:
    ended = shell.type("rerun", image, "--seed", "7")

    assert seeds_posted(comfy_server) == [42, 7]
    assert "seed 5.seed=7" in ended.err.splitlines()


def test_a_random_seed_is_told_and_can_be_used_again(
    shell: Shell, image: str, comfy_server: SimulatedServer
) -> None:
    """What is told is what was sent, and `--seed` takes it."""
    ended = shell.type("rerun", image, "--seed", "random", "-o", "random", "--name", "a")
    told = next(line.partition("=")[2] for line in ended.err.splitlines() if line.startswith("seed "))
    again = shell.type("rerun", image, "--seed", told, "-o", "random", "--name", "b")

    assert [str(seed) for seed in seeds_posted(comfy_server)[1:]] == [told, told]
    assert told != "42"
    assert again.out == "random/b.png\n"
    assert (shell.folder / "random/a.png").read_bytes() == (shell.folder / "random/b.png").read_bytes()


def test_a_picture_of_a_rerun_can_be_run_again(shell: Shell, image: str) -> None:
    """Its own seeds are in it, not those of the first."""
    other = shell.type("rerun", image, "--seed", "7", "--name", "other").out.strip()

    assert "seed 5.seed=7" in shell.type("rerun", other).err.splitlines()


def test_with_json_the_result_has_the_seeds(shell: Shell, image: str) -> None:
    """And stderr nothing."""
    ended = shell.type("rerun", image, "--json")

    assert next(line["seeds"] for line in ended.json if line["type"] == "result") == {"5.seed": 42}
    assert ended.err == ""


def test_a_workflow_without_seeds_says_so(shell: Shell, workflow_file: WriteFile) -> None:
    made = shell.type("run", workflow_file(picture()), "--name", "plain").out.strip()
    ended = shell.type("rerun", made)

    assert ended.code == 0
    assert "it has no seeds" in ended.err
    refused = shell.type("rerun", made, "--seed", "3")
    assert refused.code == 2
    assert "no seed to vary" in refused.err


@pytest.mark.parametrize("seed", ["+1", "fixed", "x", "-1", "1.5", ""])
def test_a_seed_that_is_none(seed: str, shell: Shell, image: str) -> None:
    ended = shell.type("rerun", image, "--seed", seed)

    assert (ended.code, ended.out) == (2, "")
    assert 'write "same", "random" or a number' in ended.err


def test_a_picture_without_a_workflow(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Exit code 2, with the reason; nothing is sent."""
    (shell.folder / "plain.png").write_bytes(PLAIN)
    for file in ("plain.png", "missing.png"):
        ended = shell.type("rerun", file)
        assert (ended.code, ended.out) == (2, "")
        assert file in ended.err
    assert comfy_server.requests.count("POST") == 0


PLAIN = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def test_a_seed_that_no_input_can_hold_is_refused(
    shell: Shell, image: str, comfy_server: SimulatedServer
) -> None:
    """It would be another one."""
    before = len(seeds_posted(comfy_server))
    ended = shell.type("rerun", image, "--seed", str(2**64 + 5))

    assert ended.code == 2
    assert ended.err.startswith("error:")
    assert len(seeds_posted(comfy_server)) == before
