"""Progress bars with an ETA, for work that is long enough to wonder about."""

from typing import Any

from tqdm import tqdm

FEW = 20_000  # below this no bar is shown: the work takes a second or two


def progress(total: int, title: str, unit: str = "row", done: int = 0, few: int = FEW) -> Any:
    """A tqdm bar for `total` units of work, of which so many are `done`, to be used with `with`; silent when they are
    fewer than `few`."""
    hidden = total < few
    return tqdm(total=total, desc=title, initial=done, unit=f" {unit}", unit_scale=True, disable=hidden, mininterval=1)
