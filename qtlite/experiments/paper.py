"""Tables I-III and the QCML sizes of Liu et al. 2024 (arXiv 2405.11304) as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of a table: accuracy in percent as printed, trainable parameters."""

    model: str  # "classical" or "qt"
    n_blocks: int | None  # L, none for the classical network
    test_accuracy: float  # percent
    n_trainable: int


def _table(classical: tuple[float, int], rows: dict[int, tuple[float, int]]) -> list[PaperRow]:
    return [
        PaperRow("classical", None, *classical),
        *(PaperRow("qt", n_blocks, *row) for n_blocks, row in rows.items()),
    ]


TABLES: dict[str, list[PaperRow]] = {
    # Table I
    "mnist": _table(
        (98.45, 6690),
        {
            16: (81.08, 457),
            31: (84.69, 652),
            46: (87.78, 847),
            61: (88.43, 1042),
            76: (90.05, 1237),
            91: (92.41, 1432),
            106: (93.81, 1627),
            121: (93.05, 1822),
        },
    ),
    # Table II
    "fashion_mnist": _table(
        (88.14, 6690),
        {
            16: (65.69, 457),
            31: (73.48, 652),
            46: (76.05, 847),
            61: (74.92, 1042),
            76: (77.31, 1237),
            91: (77.51, 1432),
            106: (80.20, 1627),
            121: (80.74, 1822),
        },
    ),
    # Table III
    "cifar10": _table(
        (62.50, 285226),
        {
            19: (28.73, 17482),
            95: (44.76, 18926),
            171: (47.42, 20370),
            247: (56.45, 21814),
            323: (60.69, 23258),
        },
    ),
}

N_TRAIN = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}  # images
TABLE_NAMES = {"mnist": "Table I", "fashion_mnist": "Table II", "cifar10": "Table III"}

# Sec. III: parameters of the comparison model's part 1, circuit and part 2
QCML_PARAMETERS = {
    "mnist": (4693, 169, 140),
    "fashion_mnist": (4693, 169, 140),
    "cifar10": (145977, 169, 140),
}
