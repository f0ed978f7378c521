"""No task runs code from the hub: the ones that would are refused by their settings, nothing of them opened before."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from analysis.surroundings import environment
from data import tasks
from data.errors import InputError
from data.task_code import foreign_code
from data.task_names import PAPER_NINE, PAPER_TASKS, TEXTS
from data.tasks import TaskSource, find_tasks, hub_task, open_task

REFUSED = r"^task .*: its metric is code from the hub, and such code is never run: leave it out$"


@pytest.fixture
def unopened(monkeypatch):
    """Nothing is opened, and the hub is not asked."""

    def refuse(*_: object) -> None:
        raise AssertionError("opened or asked")

    monkeypatch.setattr("lm_eval.tasks.manager.TaskManager.load", refuse)
    monkeypatch.setattr(tasks, "commit_of", refuse)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("polemo2_in", "task 'polemo2_in': its metric is code from the hub, and such code is never run"),
        ("polemo2_out", "task 'polemo2_out': its metric is code from the hub"),  # by the file that it includes
        ("polemo2", r"task 'polemo2_\w+' of 'polemo2': its metric is code from the hub"),
        ("squadv2", "task 'squadv2': its metric is code from the hub"),  # by the module that its class stands in
        ("meqsum", "task 'meqsum': its metric is code from the hub"),  # by the module of its functions
        ("wmt-ro-en-t5-prompt", "task 'wmt-ro-en-t5-prompt': its metric is code from the hub"),  # by its metric's name
        ("humaneval", "task 'humaneval': what a model writes is run as code, and such code is never run"),
        ("mbpp", "task 'mbpp': what a model writes is run as code"),
    ],
)
def test_a_task_with_foreign_code_is_refused_when_planned_and_when_opened(name, told, unopened):
    for act in (lambda: find_tasks([name], None), lambda: open_task(TaskSource(name))):
        with pytest.raises(InputError, match=told) as said:
            act()
        assert "\n" not in str(said.value)
    assert not {f"lm_eval.tasks.{name}.{module}" for module in ("utils", "task", "metrics")} & set(sys.modules)
    assert "evaluate" not in sys.modules


def test_the_papers_tasks_and_texts_stay(monkeypatch):
    monkeypatch.setattr(tasks, "commit_of", lambda dataset: "")
    assert [one.name for one in find_tasks([PAPER_NINE], None)] == list(PAPER_TASKS)
    assert [hub_task(name).name for name in TEXTS.values()] == list(TEXTS.values())


@pytest.mark.parametrize(
    ("settings", "fine"),
    [
        ({}, True),
        ({"metric_list": [{"metric": "acc"}], "unsafe_code": False}, True),
        ({"metric_list": [{"metric": "acc"}, {"metric": "rouge"}]}, False),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, False),
        ({"metric_list": [{"metric": "rouge"}], "process_results": "/there/is/utils.none"}, True),
        ({"metric_list": [{"metric": "/there/is/utils.none"}]}, True),
        ({"unsafe_code": True}, False),
    ],
)
def test_settings_tell_where_a_metric_is_from(settings, fine):
    assert (foreign_code(settings) is None) == fine


def test_a_module_that_reaches_for_the_hubs_metrics_is_told_by_its_text_and_not_run(tmp_path):
    for name, text in {
        "alone": "import evaluate\nraise SystemExit\n",
        "module": "import evaluate as hf_evaluate\nraise SystemExit\nhf_evaluate.load('rouge')\n",
        "named": "def one():\n    from evaluate import load\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    for name, fine in {"alone": True, "module": False, "named": False}.items():
        settings = {"filter_list": [{"filter": [{"filter_fn": f"{tmp_path}/{name}.one"}]}]}
        assert (foreign_code(settings) is None) == fine, name


def test_a_group_is_all_that_is_in_it_and_a_task_is_not_what_shares_its_tag(monkeypatch):
    fine, foreign = {"metric_list": [{"metric": "acc"}]}, {"metric_list": [{"metric": "rouge"}]}
    index = {
        "good": SimpleNamespace(cfg={"task": "good", **fine}, tags={"both"}),
        "bad": SimpleNamespace(cfg={"task": "bad", **foreign}, tags={"both"}),
        "both": SimpleNamespace(cfg=None, tags={"good", "bad"}),
        "deep": SimpleNamespace(cfg={"group": "deep", "task": [{"group": "inner", "task": ["both"]}]}, tags=set()),
        "own": SimpleNamespace(cfg={"group": "own", "task": ["good", {"task": "new", **foreign}]}, tags=set()),
        "mended": SimpleNamespace(cfg={"group": "mended", "task": ["good"], **foreign}, tags=set()),
    }
    monkeypatch.setattr(tasks, "lm_eval_tasks", lambda: SimpleNamespace(task_index=index))
    tasks.settings_of.cache_clear()
    try:
        assert hub_task("good") == TaskSource("good")
        for name in ("bad", "both", "deep", "own", "mended"):
            with pytest.raises(InputError, match=REFUSED):
                hub_task(name)
    finally:
        tasks.settings_of.cache_clear()


def test_a_worker_fetches_no_metric():
    """The library that would fetch one says so itself, in a process of a worker's surroundings."""
    asked = [sys.executable, "-c", "import evaluate; print(evaluate.config.HF_EVALUATE_OFFLINE)"]
    apart = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run(asked, env=apart | environment(1), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
