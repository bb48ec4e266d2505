"""What the tests of the command lines share."""


def error_of(main, config, capsys):
    """The one line that a mistake in the options ends with."""
    capsys.readouterr()
    assert main(config) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    found = [line for line in lines if line.startswith("error: ")]
    assert len(found) == 1
    return found[0]
