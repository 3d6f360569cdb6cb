"""The ansätze by name: their probabilities against PennyLane's, and from command line to record."""

import json

import pennylane as qml
import pytest
import tensorcircuit as tc
import torch
from refusals import refused

from qtlite.experiments.ansaetze import ANSAETZE
from qtlite.experiments.cli import main
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.build import build_model
from qtlite.experiments.records.records import recorded
from qtlite.qnn import QNN


def ry_on_each(angles):
    for qubit, angle in enumerate(angles):
        qml.RY(angle, wires=qubit)


def ry_linear_cnot(angles):
    ry_on_each(angles)
    for qubit in range(len(angles) - 1):
        qml.CNOT(wires=[qubit, qubit + 1])


def ry_ring_cnot(angles):
    ry_linear_cnot(angles)
    if len(angles) > 1:
        qml.CNOT(wires=[len(angles) - 1, 0])


def u3_ring_cu3(angles):
    single, controlled = angles.reshape(2, -1, 3)
    for qubit, three in enumerate(single):
        qml.U3(*three, wires=qubit)
    for qubit, three in enumerate(controlled):
        qml.ctrl(qml.U3, control=qubit)(*three, wires=(qubit + 1) % len(controlled))


THEIRS = {
    "ry_linear_cnot": ry_linear_cnot,
    "ry_ring_cnot": ry_ring_cnot,
    "ry_only": ry_on_each,
    "u3_ring_cu3": u3_ring_cu3,
}


@pytest.mark.parametrize("n_qubits", [2, 3, 5])
@pytest.mark.parametrize("name", ANSAETZE)
def test_probabilities_are_pennylanes(name, n_qubits):
    block, angles_per_qubit = ANSAETZE[name]
    qnn = QNN(n_qubits, 3, block=block, angles_per_block=angles_per_qubit * n_qubits).double()

    @qml.qnode(qml.device("default.qubit", wires=n_qubits), interface="torch")
    def circuit(rows):
        for row in rows:
            THEIRS[name](row)
        return qml.probs(wires=range(n_qubits))

    torch.testing.assert_close(qnn(), circuit(qnn.angles), rtol=0, atol=1e-12)


def test_a_ring_of_one_qubit_is_a_rotation():
    qnn = QNN(1, 1, block=ANSAETZE["ry_ring_cnot"][0])
    half = qnn.angles[0, 0] / 2
    torch.testing.assert_close(qnn(), torch.stack([half.cos() ** 2, half.sin() ** 2]))


@pytest.mark.parametrize("name", ANSAETZE)
def test_a_config_builds_its_ansatz(name):
    model = build_model(TrainConfig(block=name, n_blocks=2))
    block, angles_per_qubit = ANSAETZE[name]
    assert model.qnn.block is block
    assert model.qnn.angles.shape == (2, 13 * angles_per_qubit)


def test_the_record_of_a_run_names_its_ansatz(tmp_path, capsys):
    command = ["train", "--quiet", "--n-train", "64", "--epochs", "1", "--blocks", "1"]
    folders = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records")]
    for block in ("ry_linear_cnot", "ry_ring_cnot"):
        assert main([*command, "--block", block, *folders]) == 0
    capsys.readouterr()
    assert main([*command, *folders]) == 0
    assert capsys.readouterr().out.startswith("already done")
    assert {config.block for config in recorded(tmp_path / "records")} == {
        "ry_linear_cnot",
        "ry_ring_cnot",
    }


def test_an_older_record_without_a_block_had_the_papers(tmp_path):
    older = TrainConfig(n_blocks=3).to_dict()
    del older["block"]
    assert TrainConfig.from_dict(json.loads(json.dumps(older))) == TrainConfig(n_blocks=3)


def test_models_without_this_circuit_refuse_another_block():
    for model in ("classical", "qcml", "hashed"):
        with pytest.raises(ValueError, match="block must be 'ry_linear_cnot' unless model is 'qt'"):
            TrainConfig(model=model, block="ry_only")
    refused("block must be one of .*, got 'rx'", TrainConfig, block="rx")
    for shape in ((17,), (19,), (3, 6)):
        with pytest.raises(ValueError, match=r"angles must have shape \(18,\), got \("):
            ANSAETZE["u3_ring_cu3"][0](tc.Circuit(3), torch.zeros(shape))
