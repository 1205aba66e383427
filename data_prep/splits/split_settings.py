"""The key `split` of task.yaml: how rows go to train, val and test."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from data_prep.settings import Number, SettingError, Whole, between, within
from data_prep.table.table_settings import STRICT, OwnSplits
from workspace.ranges import SEED

Scheme = Literal["stratified", "original"]


@dataclass(frozen=True, config=STRICT)
class SplitSettings(OwnSplits):
    """How rows go to train, val and test: as the user has split them, or by a scheme (data_prep.splits.splitting),
    `val` and `test` being shares of all rows."""

    scheme: Scheme = "stratified"
    seed: Annotated[Whole, within(SEED)] = 42
    val: Annotated[Number, between(0.001, 0.9)] = 0.1
    test: Annotated[Number, between(0.001, 0.9)] = Field(
        default_factory=lambda given: 0.2 if given.get("scheme") == "original" else 0.1
    )

    folds: Annotated[Whole, between(2, 20)] | None = None  # of a cross-validation; see eval.cross_validation
    fold: Annotated[Whole, between(1, 20)] | None = None  # the one that is tested on

    @property
    def own(self) -> bool:
        """Whether the user has split the rows."""
        return self.column is not None or self.files is not None

    @property
    def name(self) -> str:
        """What the manifest calls the way of splitting: a scheme, `column` or `files` for splits of the user's, or
        `folds`."""
        given = {"column": self.column, "files": self.files, "folds": self.folds}
        return next((name for name, value in given.items() if value is not None), self.scheme)

    @model_validator(mode="after")
    def _one_of_the_folds(self) -> "SplitSettings":
        if (self.fold or 0) > (self.folds or 0) or bool(self.fold) != bool(self.folds) or (self.own and self.folds):
            raise SettingError(f"is {self.fold} of {self.folds} folds: `bash run_sft.sh TASK --cv 5` sets both", "fold")
        return self

    @model_validator(mode="after")
    def _leaves_train_rows(self) -> "SplitSettings":
        if self.val + self.test > 0.95:
            raise SettingError(f"and val take {self.val + self.test:.0%} of the rows, expected at most 95 %", "test")
        return self
