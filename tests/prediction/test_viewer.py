"""The page of a patient, in a real browser: slices scroll together, windows change what is seen, nothing is fetched."""

import base64
import json
import re
import zlib

import browser
import numpy as np
import pytest

from synthct.images.grid import Grid, Volume
from synthct.prediction.inference import Prediction
from synthct.prediction.viewer import page

GRID = Grid((40, 30, 12), (1.0, 1.0, 3.0), (-20.0, -15.0, 0.0))


@pytest.fixture
def html(tmp_path):
    z, y, x = np.mgrid[:12, :30, :40]
    body = ((y - 15) / 12) ** 2 + ((x - 20) / 16) ** 2 < 1
    sct = np.where(body, 40 + 10 * z, -1024).astype(np.int16)
    result = Prediction(Volume(sct, GRID), Volume(np.where(body, 7.5, 0).astype(np.float32), GRID), {})
    image, mask = Volume((body * (100 + x)).astype(np.int16), GRID), Volume(body.astype(np.uint8), GRID)
    ct = Volume(np.where(body, 0, -1024).astype(np.int16), GRID)
    verdict = {"verdict": "look", "reasons": ["slices too thick (<3 mm)"]}
    file = tmp_path / "p.html"
    file.write_text(page("P<1>", image, mask, result, ct=ct, verdict=verdict))
    return file


def test_the_page_fetches_nothing_and_escapes_names(html):
    text = html.read_text()
    assert "P&lt;1&gt;" in text and "P<1>" not in text and "slices too thick (&lt;3 mm)" in text
    assert not re.search(r"https?://|src=|@[A-Z]+@", text)


def test_where_the_ct_saw_nothing_there_is_no_difference():
    """A CT on a grid of its own that holds the lower half: elsewhere the sCT is no 1000 HU too high."""
    sct = Volume(np.full(GRID.shape, 30, np.int16), GRID)
    mask = sct.with_array(np.ones(GRID.shape, np.uint8))
    result = Prediction(sct, sct.with_array(np.zeros(GRID.shape, np.float32)), {})
    half = Grid((42, 32, 6), GRID.spacing, (-21.0, -16.0, 0.0))
    text = page("P", sct, mask, result, ct=Volume(np.zeros(half.shape, np.int16), half))
    about = json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S)[1])
    shown = next(each for each in about["volumes"] if each["name"] == "difference")
    array = np.frombuffer(zlib.decompress(base64.b64decode(shown["data"])), "<i2").reshape(GRID.shape)
    assert (array[:6] == 30).all() and (array[6:] == 0).all()
    assert "covers 50.0% of the mask" in shown["title"]


@pytest.mark.skipif(not browser.find(), reason="no Chromium on this machine")
def test_the_page_in_a_browser(html):
    with browser.Browser(browser.find()) as page:
        page.open(html, 1200)
        for _ in range(100):
            if page.evaluate("document.body.dataset.ready") == "1":
                break
        names = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.id)")
        assert names == ["view-image", "view-sct", "view-difference", "view-uncertainty"]

        def gray(name, x, y):
            return page.evaluate(
                f"[...document.querySelector('#view-{name} canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]"
            )

        assert page.evaluate("document.getElementById('at').textContent") == "7 of 12"
        assert gray("sct", 20, 15)[0] == round(255 * (100 - -160) / 400)  # 40 + 10 * 6 HU in a window of 40, 400
        page.evaluate("dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowUp'}))")
        assert page.evaluate("document.getElementById('at').textContent") == "8 of 12"
        assert gray("sct", 20, 15)[0] == round(255 * (110 - -160) / 400)
        bone = "const e = document.getElementById('preset'); e.value = '400,1800'; e.onchange({target: e})"
        page.evaluate(bone)
        assert gray("sct", 20, 15)[0] == round(255 * (110 + 500) / 1800)
        assert gray("sct", 1, 1)[:3] == [0, 0, 0]
        page.evaluate("const p = document.getElementById('plane'); p.value = '1'; p.onchange({target: p})")
        size = page.evaluate("[...document.querySelectorAll('#view-sct canvas')].map(c => [c.width, c.height])[0]")
        assert size == [40, 12] and page.evaluate("document.getElementById('at').textContent") == "16 of 30"
        # the body's top is up: the second row is the last slice but one, 40 + 10 * 10 HU
        assert gray("sct", 20, 1)[0] == round(255 * (140 + 500) / 1800)
        noticed = [line for line in page.console if "willReadFrequently" not in line]  # of this test's own reading
        assert noticed == [] and not [url for url in page.requests if not url.startswith("file:")]
