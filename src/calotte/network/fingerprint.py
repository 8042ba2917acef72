"""Fingerprint: a hash of what a network computes, the same in every process and on every machine."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.graph import Network, Relu

__all__ = ["fingerprint"]


def fingerprint(network: Network) -> str:
    """The sha256 of the nodes with their numbers, of the shape of the input and of the decision."""
    digest = hashlib.sha256()
    add(digest, (network.input_shape, network.decision.rule, network.decision.outputs, network.decision.ties))
    for node in network.nodes:
        add(digest, (node.inputs, node.op))
    return digest.hexdigest()


def add(digest: hashlib._Hash, value: Any) -> None:
    """Let a value enter the hash: kind, length and content, so that no two values are written alike."""
    if isinstance(value, Tensor):
        add(digest, (str(value.dtype), tuple(value.shape)))
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).data)
    elif isinstance(value, Affine | Relu):
        kept = {key: v for key, v in vars(value).items() if not isinstance(class_member(value, key), cached_property)}
        add(digest, (type(value).__name__, *sorted(kept)))
        for key in sorted(kept):
            add(digest, kept[key])
    elif isinstance(value, tuple | list):
        digest.update(f"{len(value)} values".encode())
        for entry in value:
            add(digest, entry)
    elif value is None or isinstance(value, str | int | float | np.generic):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    else:
        raise TypeError(f"cannot hash {type(value).__name__}")


def class_member(value: object, key: str) -> Any:
    """What the class of an object says about an attribute: a cached property is no content."""
    return getattr(type(value), key, None)
