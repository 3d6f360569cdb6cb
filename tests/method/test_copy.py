"""The method's files are copied into coursework: they run there, without the engine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qtlite

PROGRAM = """
import sys

for name in ("numba", "llvmlite", "torchvision", "pandas", "matplotlib", "safetensors"):
    sys.modules[name] = None  # as if it were not installed
import torch
from sklearn.datasets import load_digits
from torch import nn
from qtlite import QuantumTrain

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 8 - 1
labels = torch.tensor(digits.target)
model = QuantumTrain(nn.Linear(64, 10), n_blocks=2)
optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
for step in range(80):
    loss = nn.functional.cross_entropy(model(images[:1500]), labels[:1500])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
plain = model.to_classical()
accuracy = (plain(images[1500:]).argmax(1) == labels[1500:]).float().mean().item()
print(accuracy, "qtlite.engine" in sys.modules, sys.modules["qtlite"].__file__)
"""


def run(folder):
    command = [sys.executable, "-c", PROGRAM]
    accuracy, has_engine, path = subprocess.check_output(command, cwd=folder, text=True).split()
    assert Path(path).is_relative_to(folder)
    return float(accuracy), has_engine


def test_the_copied_files_train_digits_without_the_engine_and_with_it(tmp_path):
    package, copied = Path(qtlite.__file__).parent, tmp_path / "qtlite"
    copied.mkdir()
    for path in package.glob("*.py"):
        shutil.copy(path, copied)
    alone, has_engine = run(tmp_path)
    assert (alone > 0.7, has_engine) == (True, "False")
    if not (package / "engine").is_dir():
        pytest.skip("this copy has no engine")
    shutil.copytree(package / "engine", copied / "engine")
    beside, has_engine = run(tmp_path)
    assert has_engine == "True"
    assert abs(alone - beside) < 0.1
