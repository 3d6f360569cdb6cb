"""Data of the book's playground page: scikit-learn's digits as one small script."""

from __future__ import annotations


def digits_script() -> str:
    """Return ``book/_static/playground/digits.js``: 1,797 digits, a letter a pixel.

    Letters a to q are the pixels 0 to 16, 64 of them a digit, row by row; labels follow.

    Example:
        >>> len(digits_script()) < 120_000
        True
    """
    from sklearn.datasets import load_digits  # here: it takes half a second

    digits = load_digits()
    pixels = "".join(chr(ord("a") + int(value)) for value in digits.images.ravel())
    labels = "".join(map(str, digits.target))
    return (
        "/* scikit-learn's digits, packed by qtlite/experiments/report/playground.py. */\n"
        f'const qtliteDigits = {{\n  labels: "{labels}",\n  pixels: "{pixels}",\n}};\n'
        'if (typeof module !== "undefined") module.exports = qtliteDigits;\n'
    )
