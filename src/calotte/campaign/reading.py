"""Reading a campaign as the page about it takes it, finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from calotte.assessment import Assessment, by_size
from calotte.campaign.export import assessment
from calotte.campaign.keys import Key
from calotte.campaign.store import Store
from calotte.errors import InvalidInput
from calotte.report.kept import Kept

__all__ = ["read_campaign"]


def read_campaign(folder: Path, store: Store) -> list[Kept]:
    """What its store holds: one for each size of the noise that has a result, the largest first.

    Raises:
        InvalidInput: there is no result yet, or they are those of plan.
    """
    found = [_with_witness(assessment(store, line), key, store) for key, line in store.results()]
    failures = tuple(_failure(json.loads(line)) for line in store.lines(failed=True))
    groups = sorted(by_size(found), key=lambda group: -group[0].eps)
    if not groups:
        raise InvalidInput(f"{store.path} holds no assessment{'; '.join(('', *failures[:1]))}")
    return [Kept(folder, store.description, str(store.run), tuple(group), failures) for group in groups]


def _with_witness(one: Assessment, key: Key, store: Store) -> Assessment:
    return one if one.adversarial_distance is None else replace(one, witness=store.witness(key))


def _failure(entry: Mapping[str, Any]) -> str:
    at = f" at eps {entry['eps']:.4g}" if isinstance(entry.get("eps"), float) else ""
    return f"input {entry['index']} has no result{at}: {entry.get('failed')}: {entry.get('reason')}"
