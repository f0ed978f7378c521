"""What a cell is computed in: what libraries read when they are imported, and how torch sums.

It decides bits as the work itself does, so that this module's code is in the key of every cell (`analysis/cell.py`).
"""

import os


def environment(threads: int) -> dict[str, str]:
    """What libraries read when they are imported: threads of linear algebra, silence, and repeatable GPU sums.

    Unless told so, every worker takes every core, and they wait for each other: the demo took twice as long.
    """
    told = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    # Advice about settings that are as they should be would tear the progress bar, and so would the libraries' own
    # bars; errors still come through.
    told |= {"TRANSFORMERS_VERBOSITY": os.environ.get("TRANSFORMERS_VERBOSITY", "error"), "TQDM_DISABLE": "1"}
    # Libraries walk through sets of names, whose order Python otherwise draws anew in every process.
    told |= {"PYTHONHASHSEED": "0"}
    # Without it, torch refuses matrix products on a GPU once asked for repeatable ones.
    told |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    # No metric is fetched as code: such tasks are refused before (`data/task_code.py`), and this stands behind that.
    told |= {"HF_EVALUATE_OFFLINE": "1"}
    for name in ("HF_HUB_OFFLINE", "HF_HOME"):
        if name in os.environ:
            told[name] = os.environ[name]
    return told


def settle(threads: int) -> None:
    """Let torch sum on so many threads, and in the same order every time."""
    import torch  # not before the environment is told, which it reads

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
