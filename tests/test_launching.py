"""Studies started from a page: strict before they start, followed while they run, stopped and gone on with."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
import yaml

from analysis import launching
from data.errors import InputError
from tests.opened_pages import opened
from tests.studies import STUDY

SMALL = yaml.safe_dump(STUDY.model_dump(mode="json", exclude_none=True))
SAYS = "print('1/2 cells, 3 s, about 3 s left; scored: dense', flush=True); "
WAITS = SAYS + "import time; time.sleep(60)"
FINISHES = "print('5 s; tables, verdict and manifest in /a/long way/small-0a1b2c3d')"
FAILS = "import sys; print('error: model nowhere: there is no such folder', file=sys.stderr); sys.exit(2)"


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Starts a stand-in for the run: what it does is a line of Python."""

    def start(script: str) -> launching.Launched:
        monkeypatch.setattr(launching, "command_of", lambda study, root: [sys.executable, "-c", script])
        return launching.look_at(launching.launch(SMALL, tmp_path))

    yield start
    for one in launching.list_launched(tmp_path):
        launching.stop(one)


def until(state: str, one: launching.Launched) -> launching.Launched:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        now = launching.look_at(one.folder)
        if now.state == state and (state != "running" or now.step is not None):
            return now
        time.sleep(0.05)
    raise AssertionError(f"still {now.state}: {now.log}")


def test_an_estimate_says_cells_time_and_effect(tmp_path):
    found = launching.resolution_of(SMALL, tmp_path)
    assert len(found.cells) > 20
    assert found.finished == 0
    assert found.minutes > 0
    assert any(one.sentence.startswith("main: ") and 0 < one.difference < 1 for one in found.detectable)
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_refused_in_the_words_of_the_command_line(tmp_path, monkeypatch):
    def command(study, root):
        says = f"error: study '{study}': unknown key 'compresions': remove it or mend its spelling"
        return [sys.executable, "-c", f"import sys; print({says!r}, file=sys.stderr); sys.exit(2)"]

    monkeypatch.setattr(launching, "command_of", command)
    with pytest.raises(InputError, match=r"^study 'small.yaml': unknown key 'compresions'"):
        launching.resolution_of(SMALL, tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/etc/study", "..", "", "a/b", 3])
def test_no_name_leads_out_of_the_folder(name, tmp_path):
    text = yaml.safe_dump(yaml.safe_load(SMALL) | {"name": name})
    for refused in (launching.resolution_of, launching.launch):
        with pytest.raises(InputError, match="name: a study is called by"):
            refused(text, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_study_is_refused(tmp_path):
    for text in ("[1, 2]", "a: [", "title: no name"):
        with pytest.raises(InputError):
            launching.launch(text, tmp_path)


def test_a_run_is_followed_stopped_and_gone_on_with(started, tmp_path):
    one = until("running", started(WAITS))
    assert one.step is not None
    assert (one.step.done, one.step.total, one.step.left) == (1, 2, 3)
    with pytest.raises(InputError, match="running already"):
        launching.launch(SMALL, tmp_path)
    pid = json.loads((one.folder / launching.PROCESS).read_text())["pid"]
    assert os.getpgid(pid) == pid != os.getpgid(0)
    launching.stop(one)
    stopped = launching.look_at(one.folder)
    assert stopped.state == "stopped"
    assert stopped.step is not None
    assert until("finished", started(FINISHES)).says == "small-0a1b2c3d"
    assert [each.folder for each in launching.list_launched(tmp_path)] == [one.folder]
    assert yaml.safe_load(one.study) == yaml.safe_load(SMALL)


def test_the_page_shows_how_far_it_is_and_stops_and_resumes_it(started, tmp_path, monkeypatch):
    one = until("running", started(WAITS))
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    page = opened("new_study")
    assert "1 of 2 cells, about" in page.get("progress")[0].proto.text
    page.button(key=f"stop {one.name}").click().run()
    assert not page.exception
    assert launching.look_at(one.folder).state == "stopped"
    monkeypatch.setattr(launching, "command_of", lambda study, root: [sys.executable, "-c", FAILS])
    page.button(key=f"resume {one.name}").click().run()
    until("failed", one)
    page.run()
    assert page.error[0].value == "model nowhere: there is no such folder"


def test_what_went_wrong_is_one_sentence(started):
    failed = until("failed", started(FAILS))
    assert failed.says == "model nowhere: there is no such folder"
    assert "without a word" in until("failed", started("import os; os._exit(9)")).says


def test_another_process_with_the_number_of_one_that_ended_is_not_it(started):
    one = until("finished", started(FINISHES))
    stored = json.loads((one.folder / launching.PROCESS).read_text())
    (one.folder / launching.PROCESS).write_text(json.dumps(stored | {"pid": os.getpid()}))
    assert launching.look_at(one.folder).state == "finished"
    launching.stop(one)  # would end this test run


@pytest.mark.parametrize("step", [5, -3600])
def test_a_clock_that_is_set_ends_no_study(step, started, tmp_path, monkeypatch):
    one = until("running", started(WAITS))
    born = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born(process) + step)  # as /proc/stat's btime
    assert launching.look_at(one.folder).state == "running"
    with pytest.raises(InputError, match="running already"):
        launching.launch(SMALL, tmp_path)
    launching.stop(one)
    assert launching.look_at(one.folder).state == "stopped"


@pytest.mark.parametrize("other", [{"machine": "another boot"}, {"began": "1"}])
def test_a_process_of_another_boot_or_birth_is_not_the_one_that_was_noted(other, started):
    one = until("running", started(WAITS))
    whole = (one.folder / launching.PROCESS).read_text()
    (one.folder / launching.PROCESS).write_text(json.dumps(json.loads(whole) | other))
    assert launching.look_at(one.folder).state == "failed"
    (one.folder / launching.PROCESS).write_text(whole)
    assert launching.look_at(one.folder).state == "running"


def test_a_note_of_before_is_followed_by_the_time_of_birth(started):
    one = until("running", started(WAITS))
    stored = json.loads((one.folder / launching.PROCESS).read_text())
    before = {name: stored[name] for name in ("pid", "born", "started")}
    (one.folder / launching.PROCESS).write_text(json.dumps(before))
    assert launching.look_at(one.folder).state == "running"
    (one.folder / launching.PROCESS).write_text(json.dumps(before | {"born": before["born"] - 5}))
    assert launching.look_at(one.folder).state == "failed"
    (one.folder / launching.PROCESS).write_text(json.dumps(before))


def test_an_estimate_without_end_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "command_of", lambda study, root: [sys.executable, "-c", WAITS])
    monkeypatch.setattr(launching, "ESTIMATING", 0.5)
    with pytest.raises(InputError, match="ask in a terminal"):
        launching.resolution_of(SMALL, tmp_path)


def test_a_process_that_ends_before_its_signal_is_stopped(started, monkeypatch):
    one = until("running", started(WAITS))
    send = os.killpg

    def late(number: int, ending: int) -> None:
        send(number, signal.SIGKILL)  # a shell's background job is born deaf to interrupts
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", late)
    launching.stop(one)
    assert until("stopped", one).says == ""


HUGE = 10**400
PIDS = [-1, 0, 1, True, 2**22 + 1, 2**70, HUGE, 99.5, "99", None, float("inf")]
WRONG = [*({"pid": pid} for pid in PIDS), {"born": HUGE}, {"born": None}, {"started": HUGE}]


def test_a_damaged_record_hides_no_other(started, tmp_path):
    whole = until("finished", started(FINISHES))
    record = json.loads((whole.folder / launching.PROCESS).read_text())
    damaged = ["{", "[]", "[" * 100_000, *(json.dumps(record | wrong) for wrong in WRONG)]
    folders = [tmp_path / launching.FOLDER / f"damaged{place}" for place in range(len(damaged))]
    for folder, text in zip(folders, damaged, strict=True):
        folder.mkdir()
        (folder / launching.PROCESS).write_text(text)
    found = {one.name: one.state for one in launching.list_launched(tmp_path)}
    assert found == {whole.name: "finished"} | dict.fromkeys((folder.name for folder in folders), "unreadable")
    for folder in folders:
        (folder / launching.PROCESS).unlink()


@pytest.mark.parametrize("name", [launching.STUDY, launching.PROCESS])
def test_a_start_on_a_full_disk_is_one_sentence_and_leaves_no_process(name, started, tmp_path, monkeypatch):
    begun: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        """A process that the test can ask how it ended."""

        def __init__(self, *told: Any, **more: Any) -> None:
            super().__init__(*told, **more)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    full(name, monkeypatch)
    with pytest.raises(InputError, match=r"cannot be written to \(No space left on device\): make room"):
        started(WAITS)
    assert [one.poll() for one in begun] == ([-signal.SIGKILL] if name == launching.PROCESS else [])
    assert launching.list_launched(tmp_path) == []


def test_a_study_ends_where_the_disk_is_too_full_to_note_that_it_was_stopped(started, monkeypatch):
    one = until("running", started(WAITS))
    with monkeypatch.context() as patch:
        full(launching.PROCESS, patch)
        with pytest.raises(InputError, match=r"cannot be written to \(No space left on device\): make room"):
            launching.stop(one)
    assert launching.look_at(one.folder).state == "failed"


def full(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no room for files of that name."""
    write = launching.write_atomically

    def refuse(path, text):
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, text)

    monkeypatch.setattr(launching, "write_atomically", refuse)


def test_the_page_says_that_the_disk_is_full(started, tmp_path, monkeypatch):
    one = until("running", started(WAITS))
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    page = opened("new_study")
    full(launching.PROCESS, monkeypatch)
    page.button(key=f"stop {one.name}").click().run()
    assert not page.exception
    assert any("No space left on device" in each.value for each in page.warning)


def test_a_damaged_record_is_said_and_the_form_stays(started, tmp_path, monkeypatch):
    one = until("finished", started(FINISHES))
    (one.folder / launching.PROCESS).write_text("{")
    with pytest.raises(InputError, match="remove that folder"):
        launching.look_at(one.folder)
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    page = opened("new_study")
    assert not page.exception
    assert "remove that folder" in page.warning[0].value
    assert page.button(key="run_study")
    (one.folder / launching.PROCESS).unlink()
