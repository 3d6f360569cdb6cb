import pytest
import torch
from refusals import refused

from qtlite.experiments.models.targets import paper_cnn

SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "digits": (1, 28, 28),
    "cifar10": (3, 32, 32),
}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dataset", SHAPES)
def test_images_to_ten_logits(dataset, relu):
    assert paper_cnn(dataset, relu=relu)(torch.zeros(2, *SHAPES[dataset])).shape == (2, 10)


def test_without_relu_the_network_is_homogeneous():
    """Max-pooling alone, no biases: three times the image gives three times the logits."""
    network = paper_cnn("mnist", relu=False).double()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    assert torch.allclose(network(3 * x), 3 * network(x))


def test_unknown_dataset():
    refused("dataset must be one of .*, got 'svhn'", paper_cnn, "svhn")
    refused(r"dataset must be one of .*, got \['svhn'\]", paper_cnn, ["svhn"])
