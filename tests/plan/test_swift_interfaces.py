"""What the project relies on in ms-swift and its libraries is there, and what is gone is named with its users."""

import re

import pytest

from plan.swift_interfaces import INTERFACES, Interface, missing, missing_attributes


@pytest.mark.swift
def test_every_interface_is_there() -> None:
    assert list(missing(INTERFACES)) == []


@pytest.mark.torch
def test_every_attribute_of_the_layers_is_there() -> None:
    assert list(missing_attributes()) == []


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        (Interface("json:no_such", r"\bparse_yaml_args\b"), "json:no_such is gone; used by plan/swift_server.py"),
        (
            Interface("no_such_module:x", "not our word"),
            r"cannot be imported \(.*\); used by none of our files",
        ),
        (Interface("json:dumps", "not our word", ("obj", "colour")), "no longer takes colour"),
        (Interface("string:digits", "not our word", value="012"), "is '0123456789', was '012'"),
        (
            Interface("json.decoder:", "not our word", text="class Nothing"),
            "no longer has 'class Nothing'",
        ),
        (
            Interface("json:JSONDecoder", "not our word", text="class Nothing"),
            "no longer has 'class Nothing'",
        ),
    ],
)
def test_what_is_gone_is_named(interface: Interface, said: str) -> None:
    (line,) = missing([interface])
    assert re.search(said, line), line


def test_what_is_there_is_passed_over() -> None:
    there = (
        Interface("json:JSONDecoder.decode", "", ("s",)),
        Interface("string:digits", "", value="0123456789"),
        Interface("json.decoder:", "", text="class JSONDecoder"),
    )
    assert list(missing(there)) == []
