"""A page to look at one patient: linked slices of image, sCT, difference, uncertainty and mask in one offline file.

Volumes lie in the page as deflated integers; the browser unpacks and windows them. Nothing is fetched and nothing sent.
"""

import base64
import html
import json
import zlib

import numpy as np

from synthct import __version__
from synthct.images.grid import Grid, Volume, resample, within
from synthct.images.orientation import to_lps

LARGEST = (192, 256, 256)  # voxels (z, y, x) that a page shows; finer volumes are shown at every second, third, ...


def page(
    patient: str, image: Volume, mask: Volume, result, *, ct: Volume | None = None, verdict: dict | None = None
) -> str:
    """The page of one patient. `result` holds the sCT and its uncertainty on the image's grid; `ct` lies anywhere.

    Where the CT has no values there is no difference; the title says then what part of the mask it covers. The page
    names the patient as the user's list does; no header of the image goes in.
    """
    coverage = 1.0
    turned = {"image": to_lps(image), "sct": to_lps(result.sct)}
    if ct is not None:
        on_grid = resample(ct, result.sct.grid, order=1, outside=-1024)
        inside = (mask.array > 0) & (seen := within(ct, result.sct.grid))
        coverage = float(seen[mask.array > 0].mean())
        difference = np.where(inside, result.sct.array.astype(np.int32) - on_grid.array, 0)
        turned["difference"] = to_lps(result.sct.with_array(np.clip(difference, -32768, 32767).astype(np.int16)))
    turned["uncertainty"] = to_lps(result.uncertainty)
    body = to_lps(mask)
    grid = turned["sct"].grid
    step = [max(1, -(-size // most)) for size, most in zip(grid.shape, LARGEST, strict=True)]
    part = tuple(slice(None, None, each) for each in step)
    volumes = []
    for name, title, window in TITLES:
        if name not in turned:
            continue
        array = turned[name].array[part].astype(np.float64)
        scale = (
            0.1 if name == "uncertainty" else max(1e-6, float(np.abs(array).max()) / 32000) if name == "image" else 1.0
        )
        if name == "image":
            low, high = np.percentile(array[body.array[part] > 0], (1, 99.5))
            window = [float((low + high) / 2), float(max(high - low, 1e-6))]
        if name == "difference" and coverage < 1:
            title += f", the CT covers {coverage:.1%} of the mask"
        stored = np.clip(np.rint(array / scale), -32768, 32767).astype("<i2")
        volumes.append({"name": name, "title": title, "scale": scale, "window": window, "data": _packed(stored)})
    about = {
        "size": [int(-(-size // each)) for size, each in zip(grid.shape, step, strict=True)],
        "spacing": [spacing * each for spacing, each in zip(grid.spacing[::-1], step, strict=True)],
        "volumes": volumes,
        "mask": _packed((body.array[part] > 0).astype(np.uint8)),
    }
    return (
        PAGE.replace("@PATIENT@", html.escape(patient))
        .replace("@VERDICT@", _verdict(verdict))
        .replace("@GRID@", html.escape(_grid(grid)))
        .replace("@VERSION@", __version__)
        .replace("@DATA@", json.dumps(about).replace("<", "\\u003c"))
    )


TITLES = (  # name, title, window (centre, width)
    ("image", "Image", None),
    ("sct", "Synthetic CT (HU)", [40.0, 400.0]),
    ("difference", "sCT − CT (HU)", [0.0, 600.0]),
    ("uncertainty", "Uncertainty (HU)", [100.0, 200.0]),
)


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode()


def _grid(grid: Grid) -> str:
    return f"{'×'.join(map(str, grid.size))} voxels of {'×'.join(f'{s:.3g}' for s in grid.spacing)} mm"


def _verdict(verdict: dict | None) -> str:
    if not verdict:
        return ""
    kind = {"use": "use", "look": "look", "do not use": "no"}.get(verdict["verdict"], "unknown")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in verdict["reasons"])
    return f'<div class="verdict {kind}"><b>{html.escape(verdict["verdict"])}</b><ul>{reasons}</ul></div>'


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>@PATIENT@: synthetic CT</title>
<style>
:root { color-scheme: dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 0; padding: 12px 16px; background: #15181c; color: #e6e6e6; }
h1 { font-size: 1.2rem; margin: 0 0 4px; } p { margin: 4px 0; color: #b3b9c0; }
.verdict { border-left: 6px solid #888; background: #20252b; padding: 6px 12px; margin: 8px 0; }
.verdict ul { margin: 2px 0; padding-left: 18px; }
.verdict.use { border-color: #2e9e6b; } .verdict.look { border-color: #e0a82e; } .verdict.no { border-color: #e0574f; }
#bar { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; margin: 8px 0; }
#bar input[type=range] { width: min(340px, 60vw); }
#views { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 10px; }
figure { margin: 0; background: #000; border: 1px solid #333; }
figcaption { background: #20252b; padding: 4px 8px; display: flex; flex-wrap: wrap; gap: 2px 10px; }
figcaption .read { margin-left: auto; font-variant-numeric: tabular-nums; color: #9fd3ff; }
figcaption label { font-size: .8rem; color: #b3b9c0; } figcaption input { width: 84px; vertical-align: middle; }
canvas { display: block; width: 100%; image-rendering: auto; cursor: crosshair; touch-action: pan-y; }
select, button { background: #2a3037; color: inherit; border: 1px solid #444; padding: 3px 8px; font: inherit; }
</style></head><body>
<h1>@PATIENT@</h1><p>@GRID@ · synthct @VERSION@ · predicted by neural networks, not acquired; for research use.</p>
@VERDICT@
<div id="bar">
<label>Plane <select id="plane"><option value="0">axial</option><option value="1">coronal</option>
<option value="2">sagittal</option></select></label>
<label>Slice <input id="slice" type="range" min="0" value="0"> <output id="at"></output></label>
<label>HU window <select id="preset"><option value="40,400">soft tissue</option><option value="400,1800">bone</option>
<option value="-500,1500">lung</option><option value="0,2000">all</option></select></label>
<label><input id="outline" type="checkbox" checked> mask outline</label>
<span>wheel or arrow keys scroll, drag changes the window</span>
</div>
<div id="views"></div>
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const about = JSON.parse(document.getElementById("data").textContent), [nz, ny, nx] = about.size;
const size = about.size, spacing = about.spacing, state = {plane: 0, at: [nz >> 1, ny >> 1, nx >> 1], point: null};
const el = id => document.getElementById(id);
async function unpack(text, Kind) {
  const raw = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Kind(await new Response(stream).arrayBuffer());
}
// in the plane: axes (rows, columns); the body's top is up, its front is up in axial slices
const axes = [[1, 2], [0, 2], [0, 1]];
function index(row, column) {
  const p = [0, 0, 0], [r, c] = axes[state.plane];
  p[state.plane] = state.at[state.plane];
  p[r] = r === 0 ? nz - 1 - row : row; p[c] = column;
  return (p[0] * ny + p[1]) * nx + p[2];
}
function colour(name, t) { // t from 0 to 1
  if (name === "difference") { // blue, black, red
    const d = 2 * t - 1; return d < 0 ? [40 * -d, 120 * -d, 255 * -d] : [255 * d, 90 * d, 40 * d];
  }
  const over = from => Math.max(0, 2 * t - from);
  if (name === "uncertainty") return [255 * Math.min(1, 2 * t), 255 * over(0.7), 160 * over(1.4)];
  return [255 * t, 255 * t, 255 * t];
}
let mask, views = [];
function draw() {
  const [r, c] = axes[state.plane], rows = size[r], columns = size[c];
  for (const view of views) {
    const canvas = view.canvas, context = canvas.getContext("2d");
    canvas.width = columns; canvas.height = rows;
    canvas.style.aspectRatio = (columns * spacing[c]) + " / " + (rows * spacing[r]);
    const picture = context.createImageData(columns, rows), low = view.window[0] - view.window[1] / 2;
    for (let i = 0, y = 0; y < rows; y++) for (let x = 0; x < columns; x++, i += 4) {
      const at = index(y, x), t = Math.min(1, Math.max(0, (view.values[at] * view.scale - low) / view.window[1]));
      let rgb = colour(view.name, t);
      if (el("outline").checked && mask[at]) {
        const edge = !x || !y || x === columns - 1 || y === rows - 1 || !mask[index(y, x - 1)] || !mask[index(y, x + 1)]
          || !mask[index(y - 1, x)] || !mask[index(y + 1, x)];
        if (edge) rgb = [60, 220, 140];
      }
      picture.data[i] = rgb[0]; picture.data[i + 1] = rgb[1]; picture.data[i + 2] = rgb[2]; picture.data[i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    if (state.point) {
      const [px, py] = state.point; context.fillStyle = "rgba(255,230,80,.75)";
      context.fillRect(px, 0, 1, rows); context.fillRect(0, py, columns, 1);
      const inside = px < columns && py < rows;
      view.read.textContent = inside ? (view.values[index(py, px)] * view.scale).toFixed(view.scale < 1 ? 1 : 0) : "";
    } else view.read.textContent = "";
    view.centre.value = view.window[0]; view.width.value = view.window[1];
  }
  el("slice").max = size[state.plane] - 1; el("slice").value = state.at[state.plane];
  el("at").textContent = (state.at[state.plane] + 1) + " of " + size[state.plane];
}
function scroll(by) {
  const p = state.plane; state.at[p] = Math.min(size[p] - 1, Math.max(0, state.at[p] + by)); draw();
}
function make(volume) {
  const figure = document.createElement("figure");
  const field = name => "<label>" + name + ' <input type="number" step="any" class="' + name + '"></label>';
  figure.innerHTML = '<figcaption><b></b><span class="read"></span>' + field("centre") + field("width")
    + "</figcaption><canvas></canvas>";
  figure.querySelector("b").textContent = volume.title; figure.id = "view-" + volume.name;
  const view = {...volume, canvas: figure.querySelector("canvas"), read: figure.querySelector(".read"),
    centre: figure.querySelector(".centre"), width: figure.querySelector(".width")};
  view.centre.onchange = () => { view.window[0] = +view.centre.value; draw(); };
  view.width.onchange = () => { view.window[1] = Math.max(1e-6, +view.width.value); draw(); };
  view.canvas.addEventListener("wheel", e => { e.preventDefault(); scroll(e.deltaY > 0 ? -1 : 1); }, {passive: false});
  view.canvas.addEventListener("pointermove", e => {
    const box = view.canvas.getBoundingClientRect();
    state.point = [Math.floor((e.clientX - box.left) / box.width * view.canvas.width),
      Math.floor((e.clientY - box.top) / box.height * view.canvas.height)];
    if (e.buttons & 1) {
      view.window[1] = Math.max(1e-6, view.window[1] * (1 + e.movementX / 200));
      view.window[0] += e.movementY / 200 * view.window[1];
    }
    draw();
  });
  view.canvas.addEventListener("pointerleave", () => { state.point = null; draw(); });
  el("views").append(figure);
  return view;
}
el("plane").onchange = e => { state.plane = +e.target.value; state.point = null; draw(); };
el("slice").oninput = e => { state.at[state.plane] = +e.target.value; draw(); };
el("preset").onchange = e => {
  for (const view of views) if (view.name === "sct") view.window = e.target.value.split(",").map(Number);
  draw();
};
el("outline").onchange = draw;
addEventListener("keydown", e => {
  if (["INPUT", "SELECT"].includes(e.target.tagName)) return;
  const by = {ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10}[e.key];
  if (by) { e.preventDefault(); scroll(by); }
});
(async () => {
  mask = await unpack(about.mask, Uint8Array);
  for (const volume of about.volumes) {
    const view = make(volume); view.values = await unpack(volume.data, Int16Array); view.data = null; views.push(view);
  }
  draw(); document.body.dataset.ready = "1";
})();
</script></body></html>
"""
