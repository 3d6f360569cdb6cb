import json
from pathlib import Path

from benchmarks import simulators
from benchmarks.engines import Engine
from benchmarks.report import write_readme

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_committed_page_is_what_the_measurements_give(tmp_path):
    found = [json.loads((FOLDER / f"{name}.json").read_text()) for name in ("simulators", "gpu")]
    write_readme(*found, tmp_path / "README.md")
    again = "run: python -m benchmarks.simulators --report"
    assert (tmp_path / "README.md").read_bytes() == (FOLDER / "README.md").read_bytes(), again
    for row in found[1]["circuits"]:
        if "JAX" in row["engine"]:  # as if it were not installed
            del row["median_s"], row["gradient_error"]
            row["left_out"] = "ImportError: No module named 'jax'"
    write_readme(*found, tmp_path / "README.md")
    _, section = (tmp_path / "README.md").read_text().split("## On a GPU")
    assert "| TensorCircuit, JAX, jit + scan | – | – | – | – | – |" in section


def test_times_of_more_blocks_lie_on_the_line_of_two_measured_numbers(monkeypatch):
    # a call that costs 3 s, and 0.5 s a block
    monkeypatch.setattr(
        simulators,
        "measure",
        lambda n_blocks: {"median_s": 3 + 0.5 * n_blocks, "min_s": 2 + 0.5 * n_blocks},
    )
    engine = Engine("slow", lambda n_qubits, n_blocks: n_blocks, threads=(1,), largest=2**22)
    row = simulators.measure_engine(engine, 19, 323)
    assert row["n_blocks_measured"] == [4, 8]
    assert (row["median_s"], row["min_s"]) == (3 + 0.5 * 323, 2 + 0.5 * 323)
    row = simulators.measure_engine(engine, 13, 16)
    assert (row["n_blocks_measured"], row["median_s"]) == ([16], 11)
