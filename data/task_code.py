"""What of lm-eval's own task is code that nobody here has seen, told by its settings alone, nothing of it imported.

lm-eval takes a metric that it does not know, or that is marked so, from the hub's library of metrics: a module is
downloaded and run. Some tasks' own functions do the same, and some run what a model has written.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_FETCHES = re.compile(r"evaluate\.load\(|\bfrom evaluate import\b")
"""How a task's module reaches for the hub's metrics; to import the library alone fetches nothing."""


def foreign_code(settings: dict[str, Any]) -> str | None:
    """What would be run, as the middle of a sentence; None where it is lm-eval's own code alone.

    A function stands in the settings as lm-eval's index reads them: the path of its module, a dot, its name.
    """
    if settings.get("unsafe_code"):
        return "what a model writes is run as code"
    metrics = [one for one in settings.get("metric_list") or () if isinstance(one, dict)]
    if any(one.get("hf_evaluate") for one in metrics):
        return "its metric is code from the hub"
    if not settings.get("process_results"):  # where there is such a function, the metrics are names and no more
        names = [one["metric"] for one in metrics if isinstance(one.get("metric"), str)]
        if any(not Path(name).is_absolute() and name not in _known_metrics() for name in names):
            return "its metric is code from the hub"
    if any(_fetches(module) for module in _modules(settings)):
        return "its metric is code from the hub"
    return None


@cache
def _known_metrics() -> frozenset[str]:
    """Metrics that lm-eval computes itself."""
    import lm_eval.api.metrics  # noqa: F401  # it registers them
    from lm_eval.api.registry import metric_registry

    return frozenset(metric_registry)


def _modules(value: object) -> Iterator[Path]:
    """Files of the functions that nested settings name."""
    if isinstance(value, str) and value.startswith("/"):
        folder, _, function = value.rpartition("/")
        yield Path(folder) / f"{function.rpartition('.')[0].replace('.', '/')}.py"
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _modules(inner)


@cache
def _fetches(module: Path) -> bool:
    """Whether a module's text reaches for the hub's metrics."""
    try:
        return _FETCHES.search(module.read_text(encoding="utf-8")) is not None
    except (OSError, ValueError):  # no function after all, but a text that begins with a slash
        return False
