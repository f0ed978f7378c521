"""A run that nobody watches says how far it is in lines that are read back; on a terminal it draws a bar."""

from types import SimpleNamespace

from analysis.progress import Bar, Step, last_step

CELL = SimpleNamespace(kind="scored", label="gptq-2bit + prompt-8")


def read(log: str) -> Step:
    step = last_step(log)
    assert step is not None
    return step


def test_what_is_said_is_read_back(capsys):
    bar = Bar()
    bar.start("small", 3, 2)
    begun = read(capsys.readouterr().err)
    assert (begun.done, begun.total, begun.left) == (0, 2, None)
    bar.cell(CELL, 1.0)
    bar.stop()
    said = capsys.readouterr().err
    step = read(said + "error: something else\n")
    assert (step.done, step.total, step.last) == (1, 2, "scored: gptq-2bit + prompt-8")
    assert step.left is not None
    assert len(said.splitlines()) == 1


def test_time_left_is_as_long_as_the_others_took(capsys):
    bar = Bar()
    bar.start("small", 0, 4)
    bar.started -= 30
    bar.cell(CELL, 30.0)
    step = read(capsys.readouterr().err)
    assert step.seconds == 30
    assert step.left == 90


def test_nothing_said_is_no_step():
    assert last_step("") is None
    assert last_step("Traceback\nerror: no such model\n") is None
