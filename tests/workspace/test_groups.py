"""The groups of tests/conftest.py: a module's tests run in one worker, so that its costly fixtures are made once."""

import re
import subprocess
import sys

from workspace.paths import ROOT


def test_a_module_runs_in_one_worker() -> None:
    words = ["-n", "2", "--dist", "loadgroup", "-v", "-p", "no:cacheprovider", "tests/workspace/test_pip_settings.py"]
    out = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True).stdout
    workers = re.findall(r"^\[(gw\d)\].*PASSED tests/workspace/test_pip_settings\.py", out, flags=re.MULTILINE)
    assert len(workers) > 5 and len(set(workers)) == 1, out
