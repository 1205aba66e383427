"""Training states from strangers: code in their pickles is found without being run, and never run."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.test_checkpoints import make
from train.checkpoints import fault, newest_whole
from train.pickles import strange_name

pytestmark = pytest.mark.torch


class Touch:
    """Pickled, a call that writes the file `canary` when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


def archive_of(path: Path, *pickles: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, data in enumerate(pickles):
            archive.writestr("archive/data.pkl" if not number else f"archive/{number}.pkl", data)
    return path


def test_what_torch_saves_for_a_training_is_let_through(tmp_path):
    model = torch.nn.Linear(3, 2).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 1.0])
    random = {"numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    for name, state in (("o.pt", optimizer.state_dict()), ("s.pt", schedule.state_dict()), ("r.pth", random)):
        torch.save(state, tmp_path / name)
        assert strange_name(tmp_path / name) is None


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_state_is_found_and_not_run(tmp_path, protocol):
    canary = tmp_path / "canary"
    data = pickle.dumps({"state": {}, "param_groups": Touch(canary)}, protocol=protocol)
    assert strange_name(archive_of(tmp_path / "a.pt", data)) is not None
    assert strange_name(archive_of(tmp_path / "b.pt", pickle.dumps({}, 2), data)) is not None
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()  # it would have run


def test_the_second_of_two_members_with_one_name_is_looked_at_too(tmp_path):
    bad = pickle.dumps(Touch(tmp_path / "canary"), 2)
    for order in ((bad, pickle.dumps({}, 2)), (pickle.dumps({}, 2), bad)):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
            for data in order:
                archive.writestr("archive/data.pkl", data)
        assert strange_name(tmp_path / "a.pt").endswith(".system")


def test_a_member_in_capitals_is_looked_at_too(tmp_path):
    """torch finds data.pkl under DATA.PKL too."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/DATA.PKL", pickle.dumps(Touch(tmp_path / "canary"), 2))
    assert strange_name(tmp_path / "a.pt").endswith(".system")


def test_a_pickle_before_the_archive_is_a_torn_state(tmp_path):
    """torch takes it for a plain pickle; zipfile finds the archive behind it."""
    canary = tmp_path / "canary"
    archive_of(tmp_path / "a.pt", pickle.dumps({}, 2))
    both = pickle.dumps(Touch(canary)) + (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(both)
    assert zipfile.ZipFile(tmp_path / "a.pt").testzip() is None
    with pytest.raises(zipfile.BadZipFile):
        strange_name(tmp_path / "a.pt")
    checkpoint = make(tmp_path, 10)
    (checkpoint / "optimizer.pt").write_bytes(both)
    assert fault(checkpoint) == "optimizer.pt is torn" and not canary.exists()


@pytest.mark.parametrize("member", ["constants.pkl", "code/__torch__.py", "evil.pkl", "data/evil.so"])
def test_a_file_that_no_state_has_is_found(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr(f"archive/{member}", b"\x80\x02}q\x00.")
    assert strange_name(tmp_path / "a.pt") == f"the file archive/{member}"


def test_a_pickle_that_cannot_be_read_is_a_torn_state(tmp_path):
    for data in (b"", b"\xff", b"state", pickle.dumps({"a": 1})[:-1]):
        with pytest.raises(ValueError):
            strange_name(archive_of(tmp_path / "a.pt", data))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"])
def test_training_goes_on_from_the_checkpoint_before_a_tampered_one(tmp_path, name, capsys):
    """With a line that names file and code; tests/faults does the same to a real run."""
    make(tmp_path, 10)
    later = make(tmp_path, 20)
    canary = tmp_path / "canary"
    torch.save({"param_groups": Touch(canary)}, later / name)
    assert newest_whole(tmp_path).name == "checkpoint-10"
    said = capsys.readouterr().out
    assert name in said and ".system" in said and not canary.exists()
    assert "code" in fault(later)
    torch.load(later / name, weights_only=False)
    assert canary.exists()
