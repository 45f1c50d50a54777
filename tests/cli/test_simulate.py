"""`simulate` and `demo`: nothing but this package needed."""

import re
import signal
import socket
from collections.abc import Callable
from unittest.mock import patch

from async_comfy import Workflow
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


def test_simulate_is_a_server_until_ctrl_c(shell: Shell, workflow_file: WriteFile) -> None:
    """It prints its address, runs workflows, and ends well."""
    with started(shell, "simulate", "--port", "0", "--step-ms", "0", "--load-ms", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ended = shell.type("run", workflow_file(diffusion()), "--server", url)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert ended.code == 0
    assert process.returncode == 0


def test_whoever_ends_services_ends_it_well(shell: Shell) -> None:
    """SIGTERM: its folder is removed, as after Ctrl-C."""
    (shell.folder / "temp").mkdir()
    with patch.dict("os.environ", TMPDIR=str(shell.folder / "temp")):
        process = shell.start("simulate", "--port", "0")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert list((shell.folder / "temp").iterdir())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0
    assert not list((shell.folder / "temp").iterdir())


def test_a_port_that_is_taken_is_explained(shell: Shell) -> None:
    """One line, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with started(shell, "simulate", "--port", port) as process:
            _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert "in use" in err
    assert "--port" in err
    assert "Traceback" not in err


def test_the_demo_makes_eight_pictures(shell: Shell, workflow_file: WriteFile) -> None:
    """Stdout is their paths; the same again replaces them."""
    file = workflow_file(diffusion(steps=1))
    for _ in range(2):
        ended = shell.type("demo", "--workflow", file, "--output", "pictures")

        assert ended.code == 0
        assert sorted(ended.out.split()) == shell.files("pictures/*.png")
        assert len(shell.files("**/*")) == 8


def test_the_demo_brings_its_workflow_along() -> None:
    """The example of the docs is part of the package."""
    from async_comfy.cli.demo import EXAMPLE

    assert Workflow.load(EXAMPLE).find("KSampler")
