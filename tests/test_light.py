"""What is asked, read and judged is known without the libraries that compute, and without those that draw."""

import subprocess
import sys

import pytest

COMPUTING = ("torch", "transformers", "peft", "llmcompressor", "lm_eval", "transformer_lens", "nnsight")
LIGHT = {
    "analysis.study": COMPUTING,
    "probes.specs.variants": COMPUTING,
    "probes.specs.compression": COMPUTING,
    "analysis.reading": COMPUTING,
    "analysis.asking": (*COMPUTING, "streamlit", "plotly", "pandas"),
    "analysis.launching": COMPUTING,
    "analysis.drafting": (*COMPUTING, "streamlit", "plotly", "pandas"),
    "analysis.pages.study_form": COMPUTING,
    "analysis.verdicts": (*COMPUTING, "plotly", "streamlit", "analysis.figures"),
    "analysis.pages.catalogue": (*COMPUTING, "plotly", "streamlit", "pandas"),
}


@pytest.mark.parametrize("module", LIGHT)
def test_a_module_loads_no_library_that_it_does_not_need(module):
    code = f"import sys, {module}; print(*[name for name in {LIGHT[module]} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
