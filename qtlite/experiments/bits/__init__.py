"""A network's length in bits: entropy coding, the tiny file, and the guarantee that follows."""
