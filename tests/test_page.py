"""The page about a run: what it counts, what it shows, what it lets in; in a real browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium
from matplotlib.figure import Figure
from PIL import Image
from shell import run, save_model

from calotte import cli
from calotte.adversary import Witness
from calotte.assessment import Assessment, by_risk
from calotte.bound import Bound
from calotte.campaign.outcome import Job, Outcome
from calotte.campaign.reading import read_campaign
from calotte.campaign.store import Store
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.plot import by_class, probabilities, radii, scatter, sizes
from calotte.plot.images import image_shape
from calotte.report.kept import Kept
from calotte.report.originals import find_inputs, originals
from calotte.report.page import page, unmarked
from calotte.report.standing import claim, levels, standing
from calotte.report.thumbnails import sheets

HOSTILE = "a\"'><script>document.title='owned'<!--&amp;.npz"
COUNT = 56


def read(folder: Path) -> list[Kept]:
    with Store.to_read(folder) as store:
        return read_campaign(folder, store)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A run on images in a file with a hostile name."""
    here = tmp_path_factory.mktemp("page")
    x = torch.rand(COUNT, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(here / "x.npz", x=x, y=np.arange(COUNT) % 3)
    (here / "x.npz").rename(here / HOSTILE)
    save_model(here / "m.onnx", d=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for name, size in (("r", "1.0"), ("s", "2.0 --index 0:4")):
            options = f"--rungs theorem,cell,relaxation,sampling --samples 200 --out {name}"
            patch.setattr("sys.argv", ["calotte", *f"assess m.onnx {HOSTILE} --eps {size} {options}".split()])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0
        yield read(here / "r")[0]


@pytest.fixture(scope="module")
def html(kept: Kept) -> str:
    path = find_inputs(kept)
    assert path is not None
    return page([kept, *read(kept.folder.parent / "s")], 0.01, originals(path, kept.assessments, None))


def test_the_standing_and_the_claim(kept: Kept) -> None:
    """Counted by hand: bounds on either side of delta."""

    def with_logs(one: Assessment, proved: float, sampled: float | None, label: int | None) -> Assessment:
        bounds = [Bound("cell", "proved", proved)]
        if sampled is not None:
            bounds.append(Bound("sampling", "confidence", sampled, confidence=0.999))
        return replace(one, bounds=tuple(bounds), predicted=1, label=label)

    one = kept.assessments[0]
    run = [
        with_logs(one, -20.0, -5.0, 1), with_logs(one, -20.0, -1.0, 0), with_logs(one, -1.0, -5.0, None),
        with_logs(one, -1.0, -1.0, 2), with_logs(one, -math.inf, None, 1), with_logs(one, math.log(0.01), None, 1),
    ]  # fmt: skip
    found = standing(run, 0.01)
    assert (found.total, found.proved, found.sampled, found.risk) == (6, 3, 2, 2)  # log(0.01) is rounded: not proved
    assert (found.wrong, found.labelled) == (2, 5)
    said = claim(run, 0.01, "a\x1b[31m.onnx")
    assert said.startswith("Proved for 3 of 6 inputs: random sphere noise")
    assert "probability at most 0.01; for 1 more, samples say so; 2 are at risk." in said
    assert "\x1b" not in said
    with pytest.raises(InvalidInput, match="delta"):
        standing(run, 1.0)


def test_levels_add_up_exactly(kept: Kept) -> None:
    one = replace(kept.assessments[0], bounds=(Bound("sampling", "confidence", -1.0, confidence=0.999),))
    two = replace(one, bounds=(*one.bounds, Bound("isoperimetry", "confidence", -1.0, confidence=0.99)))
    none = replace(one, bounds=(Bound("cell", "proved", -1.0),))
    assert levels([one, none]) == ("0.999", "0.999")
    assert levels([one] * 40) == ("0.999", "0.960")
    assert levels([two, one]) == ("0.989", "0.988")
    assert levels([one] * 1000) == ("0.999", None)
    assert levels([none]) == (None, None)


def axes() -> Any:
    return Figure().subplots()


def test_pictures_of_distributions_show_the_shares(kept: Kept) -> None:
    """Each line passes through the share of inputs at or below delta; classes show their quantiles."""
    every = list(kept.assessments)
    drawn = probabilities(every, 0.01, axes())
    for line in drawn.lines:
        if (rung := str(line.get_label())).startswith(("delta", "_")):
            continue
        logs = [b.log_misclassification / math.log(10) for one in every for b in one.bounds if b.rung == rung]
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        for at in (-2.0, -1.0, -0.1, 0.0):
            shown = y[np.flatnonzero(x <= at)[-1]]
            assert shown == pytest.approx(np.mean([log <= at for log in logs]), abs=1 / len(every) + 1e-12)
    reach = radii(every, axes())
    assert {str(line.get_label())[:7] for line in reach.lines} == {"certifi", "nearest"}
    ends = {float(line.get_ydata()[-1]) for line in reach.lines}  # type: ignore[index]
    assert ends <= {1.0, sum(one.witness is not None for one in every) / len(every)}
    for what in ("proved", "sampled", "radius"):
        classes = by_class(every, what, axes())  # type: ignore[arg-type]
        assert [t.get_text() for t in classes.get_yticklabels()] == ["0 (19)", "1 (19)", "2 (18)"]
    medians = [float(line.get_xdata()[0]) for line in classes.lines if line.get_marker() == "o"]  # type: ignore[index]
    for label, median in enumerate(medians):
        values = sorted(one.certified_radius or 9.0 for one in every if one.label == label)
        assert median in values
        assert sum(v <= median for v in values) >= len(values) / 2
    certain = [replace(one, bounds=(Bound("cell", "proved", -math.inf),)) for one in every]
    for draw in (by_class, probabilities, scatter):
        draw(certain, axes=axes()).figure.canvas.draw()


def test_pictures_of_sizes_show_medians_and_shares(kept: Kept) -> None:
    def run(eps: float, logs: list[float]) -> list[Assessment]:
        return [replace(kept.assessments[0], eps=eps, bounds=(Bound("cell", "proved", log),)) for log in logs]

    every = [*run(1.0, [-9.0, -7.0, -1.0]), *run(2.0, [-3.0, -2.0, -1.0])]
    (median,) = sizes(every, axes=axes()).lines
    assert np.allclose(median.get_xydata(), [[1.0, -7.0 / math.log(10)], [2.0, -2.0 / math.log(10)]])  # type: ignore[arg-type]
    (share,) = sizes(every, math.exp(-2.5), axes()).lines
    assert np.allclose(share.get_xydata(), [[1.0, 2 / 3], [2.0, 1 / 3]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((784,), (28, 28)), ((1, 28, 28), (28, 28)), ((28, 28, 1), (28, 28)), ((3, 32, 32), (3, 32, 32)),
        ((32, 24, 3), (32, 24, 3)), ((3072,), (3, 32, 32)), ((13,), None), ((49,), None), ((2, 2), None), ((), None),
    ],
)  # fmt: skip
def test_what_looks_like_an_image(shape: tuple[int, ...], image: tuple[int, ...] | None) -> None:
    assert image_shape(shape) == image


def test_inputs_are_found_again_by_their_hashes(kept: Kept, tmp_path: Path) -> None:
    path = find_inputs(kept)
    assert path is not None
    found = originals(path, kept.assessments, None)
    assert found.shape == (8, 8)
    x = np.load(path)["x"]
    assert np.array_equal(found.x[5], x[5].ravel())
    elsewhere = replace(kept, folder=tmp_path, about={**kept.about, "command": "calotte assess"})
    (Path.cwd() / HOSTILE).rename(tmp_path / HOSTILE)
    try:
        assert find_inputs(elsewhere) == tmp_path / HOSTILE
        assert find_inputs(replace(elsewhere, folder=tmp_path / "r")) == tmp_path / HOSTILE
        changed = {**kept.about["inputs"], "sha256": "0"}
        assert find_inputs(replace(elsewhere, about={**elsewhere.about, "inputs": changed})) is None
    finally:
        (tmp_path / HOSTILE).rename(path)
    np.save(tmp_path / "others.npy", x[:, :, ::-1])
    with pytest.raises(InvalidInput, match="--inputs"):
        originals(tmp_path / "others.npy", kept.assessments, None)
    with pytest.raises(InvalidInput, match="4x4 has 16 numbers"):
        originals(path, kept.assessments, (4, 4))
    turned = np.random.default_rng(0).random((2, 4, 5, 3))
    np.save(tmp_path / "nhwc.npy", turned)
    flat = turned.transpose(0, 3, 1, 2).reshape(2, -1)
    sha = hashlib.sha256(flat[0].astype("<f8").tobytes()).hexdigest()
    one = replace(kept.assessments[0], input_dimension=60, input_sha256=sha)
    found = originals(tmp_path / "nhwc.npy", [one], None)
    assert (found.shape, np.array_equal(found.image(found.x[0]), turned[0])) == ((3, 4, 5), True)


def test_thumbnails_show_inputs_points_and_differences() -> None:
    x = np.zeros((3, 8, 8, 1))
    x[:, 2, 3] = 1.0
    point = x[0].copy()
    point[0, 0], point[7, 7] = 0.5, -0.25
    made = sheets(x, [point, None, x[2]])
    assert (made.width, made.height, made.count, len(made.images)) == (8, 8, 3, 1)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(made.images[0]))).convert("RGB")).astype(int)
    assert picture.shape == (24, 24, 3)
    assert picture[2, 3].tolist() == [255] * 3
    assert picture[0, 0].tolist() == [0] * 3
    assert picture[0, 8].tolist() == [128] * 3
    brighter, darker, same = picture[0, 16], picture[7, 23], picture[4, 20]
    assert brighter[0] > brighter[2] + 100
    assert darker[2] > darker[0] + 40
    assert same.tolist() == [255] * 3
    assert (picture[16:, 16:] == 255).all(), "no change at all"
    noise = np.random.default_rng(0).random((200, 60, 80, 3))
    few = sheets(noise, [None] * 200, room=400_000)
    assert (few.width, few.height) == (48, 36)
    assert 0 < few.count < 200
    assert sum(map(len, few.images)) <= 400_000


class Tags(HTMLParser):
    """Tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_page_asks_for_nothing_and_lets_nothing_in(html: str) -> None:
    tags = Tags(html).found
    assert not [tag for tag, _ in tags if tag in ("link", "img", "iframe", "object", "base")]
    for tag, attributes in tags:
        assert "src" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        for value in attributes.values():
            assert "http" not in (value or "") or value == "http://www.w3.org/1999/xlink"
    assert [tag for tag, _ in tags].count("script") == 2, "nothing hostile became one"
    assert "<script>document" not in html
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_says_what_a_run_depends_on_and_rounds_to_the_safe_side(kept: Kept, html: str) -> None:
    about = kept.about
    for value in (kept.run, about["model"]["sha256"], about["inputs"]["sha256"], *about["versions"].values()):
        assert str(value) in html
    assert "At this level" not in html
    assert "200 samples, none of which changed the answer, bound p by 0.034 only" in html  # 1 - 0.001^(1/200)
    assert "with confidence 0.944 at least: the errors of 56 bounds add up" in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    ranked = by_risk(kept.assessments)
    assert [row[2][0] for row in data["rows"]] == [str(one.index) for one in ranked]
    place = data["columns"].index("relaxation")
    for one, row in zip(ranked, data["rows"], strict=True):
        text, key = row[2 + place]
        (bound,) = (b for b in one.bounds if b.rung == "relaxation")
        assert float(text) >= bound.probability * (1 - 1e-12)
        assert key == pytest.approx(max(bound.log_misclassification, -1e308), rel=1e-5)
        radius = float(row[2 + data["columns"].index("radius")][0])
        assert one.certified_radius is not None
        assert radius <= one.certified_radius
    for kind, flag in (("risk", 4), ("proved", 1), ("sampled", 2), ("wrong", 8)):
        assert sum(bool(row[0] & flag) for row in data["rows"]) == getattr(standing(ranked, 0.01), kind)


def test_words_about_rungs_are_no_markdown(html: str) -> None:
    for rung in PROVED_RUNGS.values():
        said = unmarked(f"{rung.proves} {rung.source}")
        assert not set("[]*") & set(said)
        assert len(said) > 20
    assert "](docs" not in html


def test_a_table_of_features_names_those_that_move_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "m.onnx")
    names = ["age", "</script><b>", "c", "d", "e", "f"]
    rows = np.random.default_rng(1).normal(size=(3, 6))
    lines = [",".join([*names, "class"]), *(",".join(map(repr, [*map(float, row), 1])) for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    status, _, err = run(capsys, monkeypatch, "assess m.onnx t.csv --sigma 0.2 --rungs cell --out o")
    assert status == 0, err
    status, out, err = run(capsys, monkeypatch, "report o --delta 0.05")
    assert (status, out, err) == (0, "", "wrote o/report.html\n")
    html = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in html.split("<body>")[1].split("</main>")[1]
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert data["sheets"] is None
    (kept,) = read(tmp_path / "o")
    for row in data["rows"]:
        one = next(one for one in kept.assessments if one.index == int(row[2][0]))
        assert isinstance(one.witness, Witness)
        most = int(np.abs(one.witness.point.numpy() - rows[one.index]).argmax())
        said = row[2 + data["columns"].index("what moves most")][0]
        assert said.startswith(f"{names[most]} {rows[one.index][most]:.3g} → ")
    assert "Nothing here was sampled" in html
    (tmp_path / "t.csv").unlink()
    status, _, err = run(capsys, monkeypatch, "report o --out p.html")
    assert status == 0
    assert err.startswith("notice: the file of inputs was not found")


def test_a_campaign_that_was_killed_is_reported_as_far_as_it_came(kept: Kept, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The files beside the store are as they were before; an input that failed is named."""
    home = kept.folder.parent
    monkeypatch.chdir(home)
    shutil.copytree(home / "r", home / "killed")
    with Store.to_read(home / "r") as store:
        description = store.description
    with Store.in_folder(home / "killed", description) as store:
        for number in range(4, COUNT):
            store._database.execute("DELETE FROM outcomes WHERE number = ?", (number,))
        store.put(Job([], store.run).failed((7, 0), "contradiction", "<i>never</i>"))
    for line in ("report killed", "export killed a.csv", "compare r killed"):
        status, _, err = run(capsys, monkeypatch, line)
        assert (status, err.count("holds 5 of 56 results")) == (0, 1), err
    assert "Not complete: 51 results are still to come." in (home / "a.csv").read_text().splitlines()[0]
    html = (home / "killed" / "report.html").read_text(encoding="utf-8")
    assert "holds 5 of 56 results" in html
    assert "input 7 has no result: contradiction: &lt;i&gt;never&lt;/i&gt;" in html
    assert "inputs without a result" in html
    assert len(read(home / "killed")[0].assessments) == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report nowhere", "nowhere holds no campaign.sqlite: name the folder of an assess --out DIR"),
        ("report r --delta 2", "delta"),
        ("report r --shape 8by8", "--shape 8by8: expected HEIGHTxWIDTH"),
        ("report r --inputs m.onnx", "m.onnx"),
        ("report r --out nowhere/p.html", "there is no folder nowhere"),
        ("report r broken", "broken/campaign.sqlite is damaged"),
        ("report r other", "other is about another noise than r"),
    ],
)
def test_what_is_no_report(  # type: ignore[no-untyped-def]
    kept: Kept, capsys, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    home = kept.folder.parent
    monkeypatch.chdir(home)
    database = (home / "r" / "campaign.sqlite").read_bytes()
    place = database.index(b'"certified_radius": 0.') + 25
    (home / "broken").mkdir(exist_ok=True)
    (home / "broken" / "campaign.sqlite").write_bytes(database[:place] + b"x" + database[place + 1 :])
    with Store.in_folder(home / "other", {}) as store:
        if (0, 0) not in store:
            store.put(Outcome(0, {**kept.assessments[0].to_dict(), "noise": "ball"}))
    status, out, err = run(capsys, monkeypatch, line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_in_a_browser_the_table_sorts_and_filters(kept: Kept, html: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    found = standing(kept.assessments, 0.01)
    with chromium() as window:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import Select

        window.get(path.as_uri())

        def column(name: str) -> list[str]:
            heads = [head.text.rstrip(" ▲▼") for head in window.find_elements(By.CSS_SELECTOR, "#table thead th")]
            rows = f"#table tbody td:nth-child({heads.index(name) + 1})"
            return [cell.text for cell in window.find_elements(By.CSS_SELECTOR, rows)]

        def click(text: str) -> None:
            window.find_element(By.XPATH, f"//button[normalize-space()='{text}']").click()

        def choose(name: str, text: str) -> None:
            Select(window.find_element(By.ID, name)).select_by_visible_text(text)

        def state() -> str:
            return str(window.find_element(By.ID, "state").text)

        assert window.title.startswith("calotte: Proved for")
        ranked = by_risk(kept.assessments)
        assert column("input") == [str(one.index) for one in ranked[:50]]
        click("next →")
        assert column("input") == [str(one.index) for one in ranked[50:]]
        click("input")
        assert column("input") == [str(i) for i in range(50)], "sorting begins at the first page"
        click("input")
        assert column("input") == [str(i) for i in range(COUNT - 1, COUNT - 51, -1)]
        sort = window.find_element(By.XPATH, "//th[button[normalize-space()='radius']]/button")
        sort.send_keys(Keys.ENTER)  # by the keyboard
        numbers = [float(text) for text in column("radius")]
        assert numbers == sorted(numbers)
        assert sort.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
        click("all again")
        choose("status", "at risk")
        assert state().startswith(f"1 to {min(found.risk, 50)} of {found.risk}" if found.risk else "no such input")
        choose("status", "answered wrongly")
        answers, labels = column("answer"), column("label")
        assert state().split("(")[0].endswith(f"of {found.wrong} ")
        assert all(a != b for a, b in zip(answers, labels, strict=True))
        click("all again")
        choose("class", "2")
        assert set(column("label")) == {"2"}
        click("all again")
        window.find_element(By.ID, "search").send_keys("55")
        assert column("input") == ["55"]
        click("all again")
        assert state() == f"1 to 50 of {COUNT}"
        pictures = window.execute_script(
            "return Promise.all([...document.querySelectorAll('.thumbs span')].slice(0, 3).map(async (span) => {"
            "const image = new Image(); image.src = span.style.backgroundImage.slice(5, -2); await image.decode();"
            "return image.naturalWidth; }))"
        )
        assert pictures == [24] * 3
        wide = window.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert wide
        assert window.get_log("browser") == []
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        assert window.execute_script("return document.documentElement.scrollWidth") <= 390, "tables scroll in place"
