"""Fixtures that several test modules share."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import ARGUMENTS, CHROMIUM
from workspace.child_process import SERVER
from workspace.errors import UserError
from workspace.paths import ROOT

# Test modules that use one place: each group runs in one worker, one after the other. The longest come first.
GROUPS = {
    # one prepared data set of the demo
    "demo": (
        "pipeline/test_multiprocess",
        "pipeline/test_demo",
        "eval/test_injection",
        "pipeline/test_vllm",
        "pipeline/test_padding_free",
    ),
    "storm": ("faults/test_storm",),  # one set of fast stand-ins
    "faults": ("faults/",),  # one recorded run
    # plugins that import ms-swift into the test's own process: once
    "ms-swift": ("plugins/test_balanced_loss", "plugins/test_label_metric", "plugins/test_label_scores"),
}
# Modules and tests that start processes, draw thousands of cases or read whole tables: no part of --quick.
SLOW = (
    "bench/test_prep",
    "bench/test_speed::test_the_machine",
    "data_prep/test_build::test_the_real_table",
    "data_prep/test_card::test_another_process",
    "data_prep/test_card::test_the_card_of_the_real_table",
    "data_prep/test_fuzz",
    "data_prep/test_reading::test_what_was_written_is_read",
    "data_prep/test_token_bound",
    "demo/test_package",
    "docs/test_commands",
    "doctor/test_doctor",
    "faults/test_storm",
    "eval/scoring/test_significance::test_multinomial",
    "eval/scoring/test_thresholds::test_two_labels",
    "eval/test_baselines::test_the_real_reviews",
    "eval/test_evaluate::test_a_full_size_run",
    "eval/test_label_audit::test_flipped",
    "eval/test_report::test_the_report_needs",
    "hub/test_download",
    "hub/test_hosts",
    "hub/test_remote_code",
    "pipeline/test_environment",
    "pipeline/test_offline",
    "plan/test_swift_server",
    "records/test_corrupted",
    "test_command_lines",
    "workspace/test_child_process",
    "workspace/test_folder_lock",
    "workspace/test_install",
    "workspace/test_packaging",
)
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a module's tests, or a group's, in one worker of pytest-xdist, and start with what takes longest."""
    for item in items:
        module = item.nodeid.split("::")[0].removeprefix("tests/").removesuffix(".py")
        group = next((name for name, parts in GROUPS.items() if module.startswith(parts)), module)
        item.add_marker(pytest.mark.xdist_group(group))
        if item.nodeid.removeprefix("tests/").replace(".py::", "::").startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (_group(item) not in GROUPS, item.get_closest_marker("swift") is None))


# ms-swift is imported once a worker: the commands of all tests that run it are forks, as those of a run are. In these
# modules a run has its own server, as it has for a user, or `swift` is a stand-in or is struck in the run's own tree.
OWN_SERVER = ("pipeline/test_demo", "faults/", "plan/test_swift_server")
_server: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have the socket of this worker's plan.swift_server in the environment of a test that runs ms-swift alone."""
    os.environ.pop(SERVER, None)
    module = item.nodeid.removeprefix("tests/")
    if item.get_closest_marker("swift") and not module.startswith(OWN_SERVER):
        if not _server:
            _server.append(f"{tempfile.mkdtemp(prefix='swift-')}/socket")
            words = [sys.executable, "-m", "plan.swift_server", _server[0]]  # it ends with this process
            subprocess.Popen(words, cwd=ROOT, env={**os.environ, SERVER: _server[0]})
        os.environ[SERVER] = _server[0]


def _group(item: pytest.Item) -> str:
    return item.get_closest_marker("xdist_group").args[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults, from what tests/faults counted, in whichever process."""
    counts: dict[str, list[int]] = {}
    for report in (one for every in terminalreporter.stats.values() for one in every):
        if getattr(report, "when", None) == "call":
            for key, value in report.user_properties:
                if key == "fault":
                    name, cases, failures = value
                    line = counts.setdefault(name, [0, 0])
                    line[0] += cases
                    line[1] += failures
    if counts:
        terminalreporter.section("faults")
        terminalreporter.write_line("| fault | cases | lost, torn, or not gone on from |\n| :-- | --: | --: |")
        for name, (cases, failures) in counts.items():
            terminalreporter.write_line(f"| {name} | {cases:,} | {failures} |")


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo's real model folder; a test that needs it is skipped, visibly, where it cannot be fetched."""
    from demo.model import ensure_model

    try:
        return ensure_model()
    except UserError as error:
        pytest.skip(f"the demo model cannot be had: {error}")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    """The demo's tokenizer and architecture with random weights, a hundredth of it: where no answer decides."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("small") / "small-model"
    shutil.copytree(demo_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2})
    config.update({"num_key_value_heads": 1, "layer_types": config.layer_types[:2]})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a test that needs it is skipped, visibly, where it is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def shared() -> Path:
    """The folder of development material beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: the test on real data is left out")
    return SHARED
