"""Fixtures that several test modules share."""

from pathlib import Path

import pytest

from workspace.errors import UserError

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo's real model folder; a test that needs it is skipped, visibly, where it cannot be fetched."""
    from demo.model import ensure_model

    try:
        return ensure_model()
    except UserError as error:
        pytest.skip(f"the demo model cannot be had: {error}")


@pytest.fixture
def shared() -> Path:
    """The folder of development material beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: the test on real data is left out")
    return SHARED
