"""The same batch twice at once: the second process is told who runs it, and does nothing."""

import errno
import os
import signal
from collections import Counter
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from async_comfy import CallerError, Workflow
from async_comfy.cli import lock
from async_comfy.testing import SimulatedServer
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.cli.test_bad_input import assert_clear
from tests.cli.test_each import write
from tests.cli.test_run import seeds_posted
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_one_process_at_a_time_runs_a_batch(
    end: signal.Signals, shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Another batch in the same folder is nobody's concern; with its process the lock ends."""
    rows = write(shell, "p.csv", "seed\n1\n2\n")
    words = ("run", workflow_file(diffusion()), "--each", rows)
    comfy_server.hold("prompt")
    with started(shell, *words) as process:
        comfy_server.wait(lambda: comfy_server.queue_remaining == 2)
        assert_clear(shell.type(*words), 2, f"runs this batch already: {process.pid} on ", "--output")
        assert len(seeds_posted(comfy_server)) == 2
        with started(shell, "run", "fox.json", "--seed", "3") as other:
            comfy_server.wait(lambda: comfy_server.queue_remaining == 3)
            process.send_signal(end)
            process.wait(PATIENCE_S)
            comfy_server.release()
            assert other.wait(PATIENCE_S) == 0

    ended = shell.type(*words)
    assert ended.code == 0, ended.err
    assert "2 done" in ended.err
    assert sum(comfy_server.executions.values()) == 3
    assert Counter(seeds_posted(comfy_server))[3] == 1
    assert sorted(path.name for path in (shell.folder / "output").iterdir()) == ["async-comfy.jsonl", "fox"]


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither its file nor folders that were made for nothing."""
    with lock.locked(tmp_path / "a" / "b", "key"):
        assert len(list((tmp_path / "a" / "b").iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_just_removed_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening it and locking it: the next one would make another file, and lock that."""
    take = lock._take

    def removed_first(file: FileIO) -> None:
        take(file)
        monkeypatch.setattr(lock, "_take", take)
        next(tmp_path.iterdir()).unlink()

    monkeypatch.setattr(lock, "_take", removed_first)
    refused = pytest.raises(CallerError, match=f"{os.getpid()} on ")
    with lock.locked(tmp_path, "key"), refused, lock.locked(tmp_path, "key"):
        pytest.fail("two of them")


def test_where_the_file_system_has_no_locks_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network drives: better without than not at all."""

    def unable(file: FileIO) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_take", unable)
    with lock.locked(tmp_path, "key"):
        pass


def test_a_folder_that_takes_no_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("")
    with pytest.raises(CallerError, match=r"Cannot use .*wall"), lock.locked(tmp_path / "wall", "key"):
        pytest.fail("locked")
