import os
import subprocess
import sys

import pytest

# So many bytes in so many blocks, all freed: how many pages does a later round ask for? (The second
# may still ask for some: blocks are aligned, and take a little more or less than the last time.)
ROUNDS = """
import resource, torch
from qtlite.experiments.train.process import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones({n_bytes} // 4 // {n_blocks}) for _ in range({n_blocks})]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {keep}:
    keep_freed_memory()
for _ in range(5):
    pages()
print(pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators differ")
@pytest.mark.parametrize(("n_bytes", "n_blocks"), [(20_000_000, 200), (200_000_000, 2)])
def test_a_later_round_finds_the_memory_of_the_first(n_bytes, n_blocks):
    # without settings of the C library's own: Dask's, for one, which other tests may have met
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    pages = []
    for keep in (False, True):
        code = ROUNDS.format(keep=keep, n_bytes=n_bytes, n_blocks=n_blocks)
        command = [sys.executable, "-c", code]
        pages.append(int(subprocess.check_output(command, text=True, env=environment)))
    if pages[0] < 1000:
        pytest.skip("this allocator keeps freed memory anyway")
    assert pages[1] < 100
