"""What Python tests of several files share."""

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch, capfdbinary):
    """Runs the command in a scratch folder and returns its status, output and errors."""
    from slipstick import cli

    monkeypatch.chdir(tmp_path)

    def run(*words):
        capfdbinary.readouterr()
        status = cli.main(list(words))
        got = capfdbinary.readouterr()
        return status, got.out, got.err.decode()

    return run
