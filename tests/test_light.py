"""What is asked, and what is read of finished runs, is known without the libraries that compute."""

import subprocess
import sys

import pytest

COMPUTING = ("torch", "transformers", "peft", "llmcompressor", "lm_eval", "transformer_lens", "nnsight")
LIGHT = {
    "analysis.study": COMPUTING,
    "probes.specs.variants": COMPUTING,
    "probes.specs.compression": COMPUTING,
    "analysis.reading": COMPUTING,
    "analysis.drafting": COMPUTING,
}


@pytest.mark.parametrize("module", LIGHT)
def test_a_module_loads_no_library_that_computes(module):
    code = f"import sys, {module}; print(*[name for name in {LIGHT[module]} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
