"""The rooms of the house: imports between them point one way, and no module outgrows what a person can hold."""

import runpy

import pytest

from workspace.paths import ROOT

DRAWING = runpy.run_path(str(ROOT / "docs" / "draw_rooms.py"))
ORDER, FILES = DRAWING["ORDER"], DRAWING["sources"]()


def test_every_room_has_its_place():
    rooms = {DRAWING["room_of"](path) for path in FILES if "/" in path}
    assert rooms == {*ORDER, "docs"}


@pytest.mark.parametrize("pair", sorted(DRAWING["imports"](FILES)))
def test_imports_point_one_way(pair):
    importer, imported = pair
    assert ORDER.index(imported) < ORDER.index(importer), f"{importer} imports {imported}"


def test_modules_are_small():
    long = {path: len(text.splitlines()) for path, text in FILES.items() if len(text.splitlines()) > 260}
    assert not long
