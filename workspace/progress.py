"""Progress bars with an ETA, for work that is long enough to wonder about."""

from typing import Any

from tqdm import tqdm

FEW = 20_000  # below this no bar is shown: the work takes a second or two


def progress(total: int, title: str, unit: str = "row") -> Any:
    """A tqdm bar for `total` units of work, to be used with `with`; silent when they are few."""
    return tqdm(total=total, desc=title, unit=f" {unit}", unit_scale=True, disable=total < FEW, mininterval=1)
