"""Inputs: reading inputs, labels and noise maps from files, and fitting them to a network."""

from calotte.inputs.files import check_file, read_array, read_inputs
from calotte.inputs.index import parse_index
from calotte.inputs.inputs import Inputs, Layout

__all__ = ["Inputs", "Layout", "check_file", "parse_index", "read_array", "read_inputs"]
