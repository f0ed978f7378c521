"""What the command line prints: the recovery table, the verdict, a model's sites."""

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from analysis.predictions import predictions_sha
from analysis.reading import GROUP_NOTE, compact, place_of, read_table, recovery_rows
from probes.capture import parity
from probes.families import family_of
from probes.inputs import build_inputs, encode
from probes.models import open_model
from probes.sites import Kind, sites_of


def show(console: Console, folder: Path) -> None:
    """Print the recovery table of each scope and group, then the verdict."""
    recovery = read_table(folder, "recovery")
    manifest = json.loads((folder / "manifest.json").read_text())
    for scope, group in recovery[["scope", "group"]].drop_duplicates().itertuples(index=False):
        rows = recovery_rows(recovery, scope, group, "candidates")
        table = Table(title=f"{scope}, {group} people: {GROUP_NOTE.get(group, '')}", title_justify="left")
        table.add_column("variant", no_wrap=True)
        for column in rows.columns:
            table.add_column(column.replace("_", " "), justify="right")
        for variant, *figures in rows.itertuples():
            table.add_row(variant, *(f"{one:,}" if isinstance(one, int) else str(one) for one in figures))
        console.print(table)
    console.print("Best of the fixed candidates; 95 % intervals over replicates and people; bits per fact, calibrated.")
    if manifest["note"]:
        console.print(f"Note: {manifest['note']}.", markup=False)
    show_verdict(console, json.loads((folder / "verdict.json").read_text()))


def show_verdict(console: Console, verdict: dict[str, Any]) -> None:
    """Print each setting's decision, account and reasons."""
    for title, entries in (("Verdict", verdict["settings"]), ("Controls (truth known)", verdict["controls"])):
        if not entries:
            continue
        table = Table(title=title, title_justify="left")
        for column in ("setting", "decision", "expressed", "redirected", "relearned", "unreached", "p"):
            table.add_column(column, no_wrap=column != "setting")
        for one in entries:
            figures = [
                compact(found["estimate"], found["lower"], found["upper"])
                if (found := one.get(f"{name}_bits"))
                else "-"
                for name in ("expressed", "redirected", "relearned", "unreached")
            ]
            p = one["predictions"][0]["p_corrected"]
            table.add_row(place_of(one), one["decision"], *figures, f"{p:.3f}")
        console.print(table)
        for one in entries:
            for reason in one["reasons"]:
                console.print(f"  {place_of(one)}: {reason}", markup=False, highlight=False)
    for one in verdict.get("reinjections", ()):  # runs of before there were any have none
        gain = one["gain_bits"]
        console.print(
            f"  {place_of(one)}: {one['decision']}, {compact(gain['estimate'], gain['lower'], gain['upper'])} bits put "
            f"back; {one['reasons'][0]}",
            markup=False,
            highlight=False,
        )
    show_further(console, verdict)


def show_further(console: Console, verdict: dict[str, Any]) -> None:
    """Print the predictions that decide nothing, knowledge and mechanism apart, and what cannot be concluded."""
    if (stored := verdict.get("predictions_sha")) is not None and stored != predictions_sha():
        console.print(
            "analysis/predictions.yaml has changed since this run: its predictions were not written down before it, so "
            "no test of the present ones can be concluded from it; run the study again",
            markup=False,
        )
    for about in ("knowledge", "mechanism"):
        lines = [
            f"  {place_of(one)}: {found['sentence']}"
            for one in verdict["settings"]
            for found in one.get("further_predictions", ())
            if found["about"] == about and found["estimate"] is not None
        ]
        if lines:
            console.print(f"{about.capitalize()}, beside what decides:")
            console.print("\n".join(lines), markup=False, highlight=False)
    for one in verdict.get("claims", ()):
        console.print(f"  claim: {one['claim']} (paper: {one['paper']}): {one['ours']}", markup=False, highlight=False)
    absent = {
        found["sentence"]
        for one in verdict["settings"]
        for found in one.get("further_predictions", ())
        if found["estimate"] is None
    }
    if absent:
        console.print("Not concluded: " + "; ".join(sorted(absent)), markup=False, highlight=False)


def show_model(console: Console, name: str, dtype: str, device: str) -> None:
    """Print a model's sites with the modules they come from, and how far capture is from Hugging Face."""
    opened = open_model(name, dtype=dtype, device=device)
    family = family_of(opened.model)
    row = encode(opened.tokenizer, "the quick brown fox")
    inputs = build_inputs(opened.model, [row, row[:2]])
    sites = sites_of(opened.model, [kind.value for kind in Kind])
    found = parity(opened.model, inputs, sites)
    table = Table(title=f"{name}: {family.model_type}, {len(family.blocks_of(opened.model))} layers")
    for column in ("site", "module in each block", "axes", "largest difference from plain hooks"):
        table.add_column(column)
    for kind in Kind:
        worst = max(found.sites[site].max_abs for site in sites if site.kind == kind)
        module = getattr(family, kind.part) if kind.part else "(the block)"
        table.add_row(kind.value, f"{family.blocks}.N.{module}", kind.axes, f"{worst:.1e}")
    console.print(table)
    parameters = sum(parameter.numel() for parameter in opened.model.parameters())
    size = parameters * torch.finfo(opened.model.dtype).bits // 8
    verdict = "passed" if found.passed else f"FAILED at {found.worst[0]}"
    console.print(
        f"parity {verdict}: logits differ from Hugging Face by at most {found.max_abs_logits:.1e}; "
        f"{parameters:,} parameters, {size / 1e6:,.0f} MB",
        markup=False,
    )
    if opened.note:
        console.print(opened.note, markup=False)
