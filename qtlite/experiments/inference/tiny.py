"""The tiny file as one of the formats that ``qtlite export`` writes and ``predict`` reads."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from qtlite.experiments.bits.tiny_file import read_tiny, to_bytes
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.models.tiny_model import model_of, tiny_config, tiny_network
from qtlite.export import FORMATS, Format, FromPixels, Trained
from qtlite.export.atomic import atomic_write
from qtlite.export.checks import check_tensors
from qtlite.export.formats import Logits


def tiny_format(config: TrainConfig | None = None) -> Format:
    """Return the format; writing needs the config of the run."""

    def write(trained: Trained, path: Path, _: Mapping[str, str]) -> str:
        content = to_bytes(tiny_network(trained.model, config))
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
            again = model_of(read_tiny(unfinished)).to_classical()
            check_tensors(trained.network.network.state_dict(), again.state_dict())
        return f"read again: the same weights from {len(content)} bytes"

    return Format("tiny", ".qt", write, _read, needs_model=True)


def _read(path: Path, _: Callable) -> tuple[Logits, dict[str, str]]:
    network = read_tiny(path)
    config = tiny_config(network)
    plain = model_of(network).to_classical().eval()
    run = FromPixels(plain, config.pixel_mean, config.pixel_std)
    about = {
        "model": f"QT-{config.n_blocks}",
        "dataset": config.dataset,
        "classes": json.dumps(CATALOGUE[config.dataset].classes),
    }
    return torch.no_grad()(lambda pixels: run(torch.from_numpy(pixels)).numpy()), about


ALL_FORMATS = {**FORMATS, "tiny": tiny_format()}
