"""The report as a page in Markdown: its terms, decisions, knowledge and mechanism apart, the paper's claims."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.literal import for_markdown
from analysis.reading import p_words

TERMS = """D is the dense model, C its compressed copy, R a repair; test subjects stand in no text that R was tuned on.

- *Bits* of a fact: the entropy of its relation's answers less the cross-entropy of the candidates, after a temperature,
  a share of chance and a bias per answer were fitted on a third set of subjects. 0 is knowing nothing. This readout
  takes up nearly all that re-weighting answers can do: in bits, *beyond recalibration* is about the gain over C itself.
- *Expressed*: bits of C. *Redirected*: the least of what C + R gains on test subjects beyond recalibration, untrained
  prompts, tuning with answers masked or shuffled and, where D has room to gain, the same repair of D. *Relearned*: gain
  on tune subjects less gain on test subjects. *Unreached*: bits of D + R less those of C + R. They do not add up.
- *Displaced* needs every comparison to reject, p after Holm over settings below .05. A prediction *supports H1*
  (displaced) or *H0* (destroyed, then learned anew) where its own p, one-sided and not corrected, is below .05. n
  counts subjects, and replicates where drift is compared.
"""

GROUPS_TOGETHER = "Bits per fact on test subjects, all of the study's groups together; 95 % intervals."


def markdown(verdict: Mapping[str, Any], manifest_note: str, title: str) -> str:
    """The verdict as a page in Markdown: decisions, knowledge, mechanism, claims, what cannot be concluded."""
    lines = [f"# {for_markdown(title)}", ""]
    lines += [f"Note: {for_markdown(manifest_note)}.", ""] if manifest_note else []
    lines += ["## Terms", "", TERMS]
    for heading, entries in (("Verdict", verdict["settings"]), ("Controls (truth known)", verdict["controls"])):
        if not entries:
            continue
        lines += [
            f"## {heading}",
            "",
            GROUPS_TOGETHER,
            "",
        ]
        names = ("expressed", "redirected", "relearned", "unreached")
        lines += [f"| setting | decision | {' | '.join(names)} | p |", "|---|---|" + "---|" * (len(names) + 1)]
        for one in entries:
            figures = [_figure(one[f"{name}_bits"]) for name in names]
            place = for_markdown(f"{one['scope']}: {one['compression']} + {one['repair']}", starts=False)
            p = p_words(one["predictions"][0]["p_corrected"]) if one["predictions"] else "-"
            lines.append(f"| {place} | {one['decision']} | {' | '.join(figures)} | {p} |")
        reasons = [f"- {_of(one, text)}" for one in entries for text in one["reasons"]]
        lines += ["", *reasons, ""]
    for about in ("knowledge", "mechanism"):
        lines += [f"## {about.capitalize()}", ""]
        for one in verdict["settings"]:
            deciding = one["predictions"] if about == "knowledge" else []
            beside = [found for found in one["further_predictions"] if found["about"] == about]
            lines += [
                f"- {_of(one, found['sentence'])}; supports {found['supports']}"
                for found in (*deciding, *beside)
                if found["estimate"] is not None
            ]
        absent = {
            found["sentence"]
            for one in verdict["settings"]
            for found in one["further_predictions"]
            if found["about"] == about and found["estimate"] is None
        }
        lines += [*(f"- {for_markdown(sentence)}" for sentence in sorted(absent)), ""]
    lines += ["## The paper's claims", "", "| claim | paper | this run |", "|---|---|---|"]
    lines += [_claim(one) for one in verdict["claims"]]
    lines += ["", "That nothing was recovered never shows that nothing is left.", ""]
    return "\n".join(lines)


def _of(setting: Mapping[str, Any], said: str) -> str:
    return for_markdown(f"{setting['compression']} + {setting['repair']}: {said}")


def _claim(claim: Mapping[str, Any]) -> str:
    cells = [for_markdown(claim[name], starts=False) for name in ("claim", "paper", "ours")]
    if not claim["measured"]:  # what it would take, in words of ours that name a command
        cells[-1] = claim["ours"]
    return f"| {' | '.join(cells)} |"


def _figure(found: Mapping[str, float] | None) -> str:
    if found is None or not np.isfinite(found["estimate"]):
        return "-"
    return f"{found['estimate']:+.2f} [{found['lower']:+.2f}, {found['upper']:+.2f}]"
