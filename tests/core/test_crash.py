"""An exception that nobody foresaw: one line, exit status 1, and a log that can be sent to strangers."""

import click
import pytest

from synthct.core.cli import tool
from synthct.core.errors import InputError


def crashing(fault):
    @tool("broken.py")
    @click.option("--patient")
    def main(patient):
        try:
            {}[patient]
        except KeyError:
            raise fault from None

    return main


def test_one_line_and_a_log_without_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fault = RuntimeError("cannot open /data/Doe_Jane/ct.mha of 'Doe^Jane', born 19700101")
    with pytest.raises(SystemExit) as stop:
        crashing(fault).main(["--patient", "Doe_Jane"])
    said = capsys.readouterr().err
    (log,) = tmp_path.iterdir()
    assert stop.value.code == 1 and len(said.splitlines()) == 1
    assert str(log) in said and "RuntimeError" in said and "Traceback" not in said
    text = log.read_text()
    assert "test_crash.py, line" in text and "RuntimeError: cannot open" in text and "--patient" in text
    for name in ("Doe", "Jane", "19700101"):
        assert name not in said + text


def test_bad_input_leaves_no_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        crashing(InputError("sheet a.csv: no patients")).main(["--patient", "A"])
    assert stop.value.code == 2 and capsys.readouterr().err == "broken.py: error: sheet a.csv: no patients\n"
    assert not list(tmp_path.iterdir())


def test_whoever_works_on_the_code_sees_the_exception(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHCT_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        crashing(ZeroDivisionError()).main(["--patient", "A"])
    assert not list(tmp_path.iterdir())
