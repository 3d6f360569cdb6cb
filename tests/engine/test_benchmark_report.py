import json
from pathlib import Path

from benchmarks.report import write_readme

FOLDER = Path(__file__).parents[2] / "benchmarks"


def read(name):
    return json.loads((FOLDER / name).read_text())


def test_the_committed_page_is_what_the_measurements_give(tmp_path):
    write_readme(read("simulators.json"), read("gpu.json"), tmp_path / "README.md")
    again = "run: python -m benchmarks.simulators --report"
    assert (tmp_path / "README.md").read_bytes() == (FOLDER / "README.md").read_bytes(), again


def test_an_engine_that_was_not_there_is_a_dash(tmp_path):
    gpu = read("gpu.json")
    for row in gpu["circuits"]:
        if "JAX" in row["engine"]:
            del row["median_s"], row["gradient_error"]
            row["left_out"] = "ImportError: No module named 'jax'"
    write_readme(read("simulators.json"), gpu, tmp_path / "README.md")
    _, section = (tmp_path / "README.md").read_text().split("## On a GPU")
    assert "| TensorCircuit, JAX, jit + scan | – | – | – | – | – |" in section


def test_no_gpu_no_section(tmp_path):
    write_readme(read("simulators.json"), None, tmp_path / "README.md")
    assert "## On a GPU" not in (tmp_path / "README.md").read_text()
