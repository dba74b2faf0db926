"""torch.compile: when a training is compiled, and that what it learns stays the same."""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from small_training import TINY
from torch import nn

from synthct.core.errors import InputError
from synthct.core.presets import resolve
from synthct.networks import network
from synthct.networks.losses import Objective
from synthct.networks.perceptual import Mind, Photographs, Sam, Scripted, Vgg19
from synthct.training import checks, compile

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("choice", "device", "there", "wanted"),
    [
        ("off", "cuda", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("auto", "cpu", True, False),
        ("on", "cuda", True, True),
        ("on", "cpu", True, True),
    ],
)
def test_when_it_is_compiled(monkeypatch, choice, device, there, wanted):
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, sys.executable if there else "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert compile.compiles(choice, torch.device(device), compile.WORTH_STEPS) is wanted
    short = wanted and choice == "on"  # a run of a few steps would spend its time on compiling
    assert compile.compiles(choice, torch.device(device), compile.WORTH_STEPS - 1) is short


@pytest.mark.parametrize(("device", "variable", "language"), [("cuda", "CC", "C"), ("cpu", "CXX", r"C\+\+")])
def test_on_needs_a_compiler(monkeypatch, device, variable, language):
    """torch says so in a traceback at the first step."""
    settings = resolve("paper", "mr", ["training.compile=on"])["training"]
    monkeypatch.setattr(checks, "device_of", lambda _: torch.device(device))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=f"no {language} compiler"):
        checks.check_settings(settings, "auto")
    checks.check_settings(settings | {"compile": "auto"}, "auto")
    monkeypatch.setenv(variable, sys.executable)
    checks.check_settings(settings, "auto")


def test_what_the_variable_names_is_what_counts(monkeypatch, tmp_path):
    """As for Triton and torch, which do not look further where CC or CXX is set."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("gcc", "g++", "cc", "ccache"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("CC", "/nowhere/gcc")
    monkeypatch.delenv("CXX", raising=False)
    assert compile.compiler() is None and compile.compiler("cpu") == str(tmp_path / "g++")
    monkeypatch.setenv("CC", "ccache gcc")
    assert compile.compiler() == str(tmp_path / "ccache")
    monkeypatch.delenv("CC")
    (tmp_path / "gcc").unlink()
    assert compile.compiler() is None, "cc alone is not looked for"


def test_auto_does_without_what_cannot_be_compiled(monkeypatch, tmp_path):
    def failing(_graph, _inputs):
        raise RuntimeError("no such thing here")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=failing))
    monkeypatch.setattr(compile, "_place", lambda _: str(tmp_path))
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.setenv(name, "1" if name.endswith("THREADS") else str(tmp_path))
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    assert torch.equal(compile.compiled(layer, "auto")(x), layer(x))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="no such thing here"):
        compile.compiled(layer, "on")(x)


def test_a_step_says_the_same_compiled(tmp_path, monkeypatch):
    """Traced by torch's compiler (machine code apart, which takes minutes): the loss, and the gradient of each weight.

    All kinds of encoders but TotalSegmentator's, which is convolutions only; TorchScript goes uncompiled beside them.
    """
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(compile, "_place", lambda _: str(tmp_path / "kept"))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.setenv(
            name, "1" if name.endswith("THREADS") else f"{tempfile.gettempdir()}/torchinductor_me"
        )  # torch's own choice
    torch.manual_seed(2)
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))).save(tmp_path / "own.pt")
    sam = Sam("vit_b", [0, 2], None)  # a block with windows, and one that sees the whole
    encoders: dict[str, nn.Module] = {
        "vgg19": Photographs(Vgg19([3], None)),
        "sam": Photographs(sam),
        "torchscript": Photographs(Scripted(tmp_path / "own.pt", [])),
        "mind": Mind([1]),
    }
    settings = resolve("test", "mr", TINY)["training"]
    plain_terms = {
        name: one | {"layers": [], "layer_weights": []} for name, one in settings["perceptual"]["encoders"].items()
    }
    settings["perceptual"] |= {"encoder": ",".join(encoders), "encoders": plain_terms}
    objective = Objective(settings, encoders).requires_grad_(False).eval()
    model = network.build(settings["network"], 5)
    network.initialise(model, settings["network"], torch.Generator().manual_seed(1))
    x, y = torch.randn(2, 5, 32, 32), torch.rand(2, 1, 32, 32) * 2 - 1

    def learnt(net, loss):
        model.zero_grad()
        terms = loss(net(x), y, y > -0.5)
        terms["loss"].backward()
        return {name: float(value.detach()) for name, value in terms.items()}, [
            one.grad.clone() for one in model.parameters() if one.grad is not None
        ]

    plain, slopes = learnt(model.train(), objective)
    model.load_state_dict(model.state_dict())
    terms, others = learnt(compile.compiled(model), compile.compiled(objective))
    assert terms == pytest.approx(plain, rel=1e-5)
    assert set(terms) == {"loss", "l1", "perceptual", *encoders} and len(slopes) == len(others) > 20
    for one, other in zip(slopes, others, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max()) + 1e-9)
    assert compile.os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "kept")
    assert Path(compile.os.environ["TRITON_CACHE_DIR"]).parent == tmp_path / "kept"


def test_what_is_compiled_lies_in_a_directory_that_is_gone_afterwards(tmp_path):
    """Its name cannot be guessed, nobody else can write into it, and it goes with the process."""
    script = """
import os, stat
from torch import nn
from synthct.training import compile
for _ in range(2):
    compile.compiled(nn.Identity())
place = os.environ["TORCHINDUCTOR_CACHE_DIR"]
print(place, oct(stat.S_IMODE(os.stat(place).st_mode)))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TORCHIND", "TRITON"))}
    environment |= {"PYTHONPATH": str(ROOT / "bin"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    place, mode = done.stdout.split()
    assert Path(place).parent == tmp_path and mode == "0o700"
    assert not list(tmp_path.glob("synthct-compile-*"))
