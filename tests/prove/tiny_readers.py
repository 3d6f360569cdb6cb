"""Five readers of each tiny file of the book, on all 10,000 test images: how many classes differ.

    python tests/prove/tiny_readers.py [FILE ...]

Needs the images (QTLITE_DATA), node and chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from tiny_readers import READERS  # noqa: E402

from qtlite.experiments.bits.tiny_file import read_tiny  # noqa: E402
from qtlite.experiments.data.loading import load_dataset  # noqa: E402


def main() -> int:
    """Print a line for each file and reader; return the number of readers that disagree."""
    files = [Path(name).resolve() for name in sys.argv[1:]]
    n_wrong = 0
    for path in files or sorted((ROOT / "book" / "models").glob("*.qt")):
        dataset = load_dataset(read_tiny(path).dataset)
        images, labels = dataset.test_images[:, 0].numpy(), dataset.test_labels.numpy()
        first = READERS["qtlite"](path, images)
        for name, classes_of in READERS.items():
            found = first if name == "qtlite" else classes_of(path, images)
            n_other, right = int((found != first).sum()), 100 * (found == labels).mean()
            print(f"{path.name}  {name:8}  {right:.2f} % right, {n_other} other than qtlite's")
            n_wrong += n_other > 0
    return n_wrong


if __name__ == "__main__":
    sys.exit(main())
