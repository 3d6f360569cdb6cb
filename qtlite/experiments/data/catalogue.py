"""The datasets as data: one entry each, which every other module reads.

Adding a dataset is adding an entry. A torchvision class fits if it takes ``train=`` and
``download=`` and has ``data`` and ``targets``, as MNIST, KMNIST and CIFAR10 do.
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """What there is to know about a dataset without reading it.

    Attributes:
        image_shape: (channels, height, width).
        classes: the meaning of each label, in order.
        pixel_mean, pixel_std: of the training images' pixels in [0, 1], all channels together.
        torchvision_class: the class of ``torchvision.datasets`` that reads it; if None,
            scikit-learn does.
        files: path below the data folder to MD5, as torchvision reads them. torchvision checks only
            the packed files, and only after a download, so these are the unpacked ones.
        convolutions: (channels, padding) of the target's two 5 x 5 convolutions.
        linear: hidden widths of the target's fully connected layers.
        qcml_linear: hidden widths of the comparison model between its convolutions and its qubits.
        mapping_hidden: hidden widths of the mapping net.
        batch_size: of every recipe that does not choose its own; None for the recipe's.
        paper_epochs: epochs in the paper.
        full_matrix: whether our recipes use full-matrix Adam where the parameters are few.
    """

    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    pixel_mean: float
    pixel_std: float
    torchvision_class: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    convolutions: tuple[tuple[int, int], ...] = ((8, 0), (12, 0))
    linear: tuple[int, ...] = (20,)
    qcml_linear: tuple[int, ...] = (10,)
    mapping_hidden: tuple[int, ...] = (4, 20, 4)
    batch_size: int | None = None
    paper_epochs: int = 50
    full_matrix: bool = False


CATALOGUE: dict[str, Entry] = {
    "mnist": Entry(
        image_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        pixel_mean=0.1307,
        pixel_std=0.3081,
        torchvision_class="MNIST",
        files={
            "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        full_matrix=True,
    ),
    "fashion_mnist": Entry(
        image_shape=(1, 28, 28),
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        pixel_mean=0.2860,
        pixel_std=0.3530,
        torchvision_class="FashionMNIST",
        files={
            "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        full_matrix=True,
    ),
    "cifar10": Entry(
        image_shape=(3, 32, 32),
        classes=(
            "airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck",
        ),
        pixel_mean=0.4734,
        pixel_std=0.2516,
        torchvision_class="CIFAR10",
        files={
            "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
            "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
            "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
            "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        convolutions=((16, 2), (32, 2)),
        linear=(128, 64),
        qcml_linear=(64, 10),
        mapping_hidden=(40, 200, 40),
        batch_size=1000,
        paper_epochs=1000,
    ),
    "digits": Entry(
        image_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        pixel_mean=0.3051,
        pixel_std=0.3233,
    ),
}  # fmt: skip

DATASETS = tuple(CATALOGUE)

# Own images are named by what there is to know without reading them: number of classes, image
# shape, mean and standard deviation of the pixels, and a digest of images, labels and classes.
_SIZE, _NUMBER = r"([1-9]\d{0,2})", r"([01]\.\d{4})"
OWN = re.compile(f"images-{_SIZE}x([13])x{_SIZE}x{_SIZE}-{_NUMBER}-{_NUMBER}-[0-9a-f]{{16}}")


def is_own(name: object) -> bool:
    """True if a dataset's name is that of own images, see ``load_images``."""
    return isinstance(name, str) and OWN.fullmatch(name) is not None


def entry_of(name: str) -> Entry:
    """Return what there is to know about a dataset of the catalogue, or about own images.

    Own images have the sizes of the paper's first network, and their classes are numbers.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> entry_of("images-2x3x32x48-0.4711-0.2000-0123456789abcdef").image_shape
        (3, 32, 48)
    """
    if not is_own(name):
        if name not in DATASETS:
            raise ValueError(f"dataset must be one of {DATASETS}, got {name!r}")
        return CATALOGUE[name]
    n_classes, *shape, mean, std = OWN.fullmatch(name).groups()
    classes = tuple(map(str, range(int(n_classes))))
    return Entry(tuple(map(int, shape)), classes, pixel_mean=float(mean), pixel_std=float(std))
