"""A finished run made by hand of which every figure of the list can be drawn."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.run_files import sealed_text
from tests.declared import write_table
from tests.stored_runs import seeded_variants, write_run

MORE = {"prompt-4": "prompt-16", "idp-2x4-attention": "idp-8x4-attention", "lora-r2": "lora-r8"}
"""Of every repair another amount; and of the prompt other steps, of the first compression other bits."""
LATENCY = "repair,phase,batch,form,ratio,compression,tokens,rounds\nprompt-4,prefill,1,,1.25,gptq-3bit,64,3\n"


def write_drawable(folder: Path) -> Path:
    """Write it: the run by hand, more of every amount, tasks, perplexity, probes, transfer and times."""
    write_run(folder)
    variants, recovery = (pd.read_parquet(folder / f"{name}.parquet") for name in ("variants", "recovery"))
    write_table(folder, "variants", _with_more(variants.assign(steps=60.0)))
    write_table(folder, "recovery", _with_more(recovery))
    own = seeded_variants("main")
    write_table(folder, "tasks", tasks_of(own))
    write_table(folder, "perplexity", texts_of(own).assign(perplexity=20.0))
    write_table(folder, "probes", _probes(own))
    write_table(folder, "transfer", _transfer())
    (folder / "latency.csv").write_text(sealed_text(LATENCY))
    return folder


def _with_more(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of every repair again under the name of another amount, and of one compression of other bits."""
    parts = [table, *(_renamed(table, "repair", one, other) for one, other in MORE.items())]
    steps = _renamed(table, "repair", "prompt-4", "prompt-4-30steps")
    parts.append(steps.assign(steps=30.0) if "steps" in table else steps)
    parts.append(_renamed(table, "compression", "gptq-3bit", "gptq-2bit"))
    return pd.concat(parts, ignore_index=True)


def _renamed(table: pd.DataFrame, column: str, one: str, other: str) -> pd.DataFrame:
    rows = table[table[column] == one].copy()
    for name in ("variant", "variant_id", column):
        if name in rows:
            rows[name] = rows[name].str.replace(one, other)
    return rows


def _probes(variants: pd.DataFrame) -> pd.DataFrame:
    """Selectivity by layer of every copy without a repair."""
    bare = variants[(variants["repair"] == "") & (variants["replicate"] == 0)]
    rows = [(one, layer, 0.1 * layer) for one in bare["variant_id"] for layer in range(3)]
    table = pd.DataFrame(rows, columns=["variant_id", "layer", "value"])
    told = {"group": "facts", "split": "test", "way": "refitted", "metric": "probe_selectivity", "entities": 12}
    return table.assign(lower=table["value"] - 0.05, upper=table["value"] + 0.05, items=12, **told)


def _transfer() -> pd.DataFrame:
    """One repair, tuned on either of two copies and used on both."""
    names = ("gptq-3bit", "wanda-70%")
    rows = [(source, target, 0.1 if source == target else 0.05) for source in names for target in names]
    table = pd.DataFrame(rows, columns=["source", "target", "gain"])
    told = {"repair": "prompt-4", "group": "facts", "reading": "candidates", "split": "test", "measure": "accuracy"}
    ends = {"gain_lower": table["gain"] - 0.02, "gain_upper": table["gain"] + 0.02}
    return table.assign(read="all", asked="all", entities=12, replicates=2, items=12, **told, **ends)


def tasks_of(variants: pd.DataFrame) -> pd.DataFrame:
    """Forty items of two tasks: dense is right on all, gptq-3bit on the first ten, gptq-3bit + prompt-4 on thirty."""
    right = {"dense": 40, "gptq-3bit": 10, "gptq-3bit + prompt-4": 30}
    variants = variants.drop(variants.index[(variants["variant"] == "dense") & (variants["replicate"] > 0)])
    rows = [
        {"variant_id": arm.variant_id, "plan": "main", "task": task, "domain": "knowledge", "item": f"{task}/{item}"}
        | {"correct": item < right[arm.variant], "correct_norm": None, "said": None, "tokens_cut": 0}
        for arm in variants[variants["variant"].isin(right)].itertuples()
        for task in ("arc", "sciq")
        for item in range(40)
    ]
    return pd.DataFrame(rows)


def texts_of(variants: pd.DataFrame) -> pd.DataFrame:
    """Two documents of ten tokens each, at perplexity 20."""
    lost = -10 * float(np.log(20))
    told = {"text": "wikitext", "window": 64, "log_likelihood": lost, "tokens": 10, "bytes": 40}
    own = variants[variants["variant"].isin(["gptq-3bit", "gptq-3bit + prompt-4"])]
    return pd.DataFrame(
        [told | {"variant_id": one, "document": place} for one in own["variant_id"] for place in (0, 1)]
    )
