"""The font for Chinese text in pictures: one of the system's, else the one in the package `zhplot`, else none.

matplotlib draws a box for each character that its font lacks, so a font is taken only when it has the characters
that our pictures use. Where there is none, the pictures carry English text alone.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

# Sans serif families with simplified Chinese, best looking first; the name under which matplotlib lists each.
FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "HarmonyOS Sans SC",
    "Heiti SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "SimHei",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)
# Noto Sans SC under the SIL Open Font License. Only the file is used: importing the package changes matplotlib.
PACKAGE = "zhplot"
PACKAGE_FILE = Path("fonts", "NotoSansSC-Regular.ttf")
FALLBACK = "DejaVu Sans"  # comes with matplotlib
PROBE = "准确率调优前后验证集训练损失未解析置信度覆盖宏平均阈值多数类线性模型生成打分负面"


class Font(NamedTuple):
    """A font that matplotlib knows: its family, its file, and the face inside the file."""

    family: str
    path: Path
    face: int = 0


def chinese_font() -> Font | None:
    """The font to draw Chinese with, registered with matplotlib by its path; None where there is none.

    The first of `FAMILIES` that has all characters of `PROBE`, else the file of `PACKAGE`, not imported.
    """
    from matplotlib.font_manager import fontManager, get_font

    upright = [entry for entry in fontManager.ttflist if entry.style == "normal"]
    # the weight nearest to regular wins, by coming last: some families are listed as medium alone
    listed = {entry.name: entry for entry in sorted(upright, key=lambda entry: -abs(int(entry.weight) - 400))}
    for family in FAMILIES:
        if family in listed:
            font = Font(family, Path(listed[family].fname), getattr(listed[family], "index", 0))
            if font.path.is_file() and not missing(PROBE, font):  # matplotlib's list may be older than the disk
                return font
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / PACKAGE_FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        return None
    if str(path) not in {entry.fname for entry in fontManager.ttflist}:
        fontManager.addfont(path)
    font = Font(get_font(str(path)).family_name, path)
    return None if missing(PROBE, font) else font


def missing(text: str, font: Font) -> set[str]:
    """The characters of `text` that `font` has no glyph for."""
    from matplotlib.ft2font import FT2Font

    glyphs = FT2Font(str(font.path), face_index=font.face).get_charmap()
    return {character for character in text if ord(character) not in glyphs}


def fallback_font() -> Font:
    """The font that comes with matplotlib: Latin, Greek, Cyrillic and many symbols, but no Chinese."""
    from matplotlib.font_manager import findfont

    return Font(FALLBACK, Path(findfont(FALLBACK)))
