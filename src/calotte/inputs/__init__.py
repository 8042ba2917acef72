"""Inputs: reading inputs, labels, noise maps and events from files, and fitting them to a network."""

from calotte.inputs.files import check_file, read_array, read_inputs
from calotte.inputs.index import parse_index
from calotte.inputs.inputs import Inputs, Layout
from calotte.inputs.property import read_event, read_half_widths

__all__ = [
    "Inputs",
    "Layout",
    "check_file",
    "parse_index",
    "read_array",
    "read_event",
    "read_half_widths",
    "read_inputs",
]
