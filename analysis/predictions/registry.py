"""The one list of predictions: a new one is a file beside this and a line here."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.evidence import Evidence
from analysis.predictions import (
    account,
    capacity,
    comparisons,
    control_labels,
    counterfactual,
    decodability,
    direction,
    errors,
    knockout,
    lengths,
    lora_drift,
)
from analysis.predictions.prediction import RECORD, Asked, Entry, Prediction, record
from analysis.study import Study
from probes.specs.registry import Registry

_PREDICTIONS: Registry[Prediction] = Registry(
    "prediction",
    (
        account.GAINED,
        comparisons.RECALIBRATION,
        comparisons.UNTRAINED,
        comparisons.MASKED,
        comparisons.SHUFFLED,
        comparisons.DENSE_ARM,
        account.RELEARNED,
        errors.PREDICTION,
        lora_drift.IN_STREAM,
        lora_drift.IN_ATTENTION,
        direction.PREDICTION,
        decodability.PREDICTION,
        knockout.PREDICTION,
        control_labels.PREDICTION,
        counterfactual.PREDICTION,
        capacity.PREDICTION,
        lengths.PREDICTION,
    ),
)

predictions = _PREDICTIONS.every
prediction_of = _PREDICTIONS.of
registered = _PREDICTIONS.with_one_more


def predictions_sha() -> str:
    """Hash of the predictions, for the manifest: what was predicted may not change after the run.

    Of the record's bytes, and of the words of every prediction that was written down after it, in its own file.
    """
    digest = hashlib.sha256(RECORD.read_bytes())
    for one in predictions():
        if one.name not in record():
            digest.update(json.dumps(one.words.stored(), sort_keys=True).encode())
    return digest.hexdigest()


def further(
    evidence: Evidence, tables: Mapping[str, pd.DataFrame], setting: Mapping[str, Any], study: Study
) -> list[Entry]:
    """What is said of every prediction that decides nothing, for one setting, in the order of the list."""
    asked = Asked(evidence, tables, setting, study)
    return [one.measure(asked) for one in predictions() if one.measure is not None]
