"""`models`: the model files that a server has."""

from tests.cli.shell import Shell


def test_all_kinds_with_their_folder(shell: Shell) -> None:
    """A file a line; its folder is that kind's name."""
    lines = shell.type("models").out.splitlines()
    told = shell.type("models", "--json").json

    assert "checkpoints/sd_xl_base_1.0.safetensors" in lines
    assert lines == [f"{line['folder']}/{line['name']}" for line in told]


def test_one_kind_by_the_names_that_nodes_take(shell: Shell) -> None:
    """Without the folder, fit for `--set`."""
    assert "sd_xl_base_1.0.safetensors" in shell.type("models", "checkpoints").out.splitlines()


def test_a_folder_that_is_not_there(shell: Shell) -> None:
    """Exit code 1, and what was meant."""
    ended = shell.type("models", "lora")
    assert (ended.code, ended.out) == (1, "")
    assert "'lora'" in ended.err
    assert "loras" in ended.err
