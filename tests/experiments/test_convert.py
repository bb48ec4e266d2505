"""`modeledit convert`: from the shell to a folder, or one line."""

import pytest

from experiments.common.console import main
from modeledit_jax.language.huggingface.checkpoint import load_pretrained
from tests.language.gguf.files import Content


def convert(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["convert", *map(str, arguments)])
    return left.value.code


def test_a_file_becomes_a_folder(tmp_path, capsys):
    path = Content().write(tmp_path / "tiny.gguf")
    assert convert(path, tmp_path / "out") == 0
    output = capsys.readouterr()
    assert output.out == f"written: {tmp_path / 'out'}\n" and "converting tiny.gguf" in output.err
    assert load_pretrained(tmp_path / "out")[0].num_layers == 2
    assert convert(path, tmp_path / "out") == 2
    assert "is not empty; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nothing.gguf", "out"], ["no file nothing.gguf"]),
        ([".", "out"], ["is a folder: give the path of a regular file"]),
        (["x.gguf"], ["Missing", "Folder to create"]),
        (["x.gguf", ""], ["an empty text"]),
        (["x.gguf", "out", "more"], ["more"]),
    ],
)
def test_mistakes_are_one_line(arguments, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert convert(*arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and all(part in error for part in parts), error
    assert not list(tmp_path.iterdir())
