import os
import subprocess
import sys

import pytest

# 20 MB in blocks that the heap holds, all freed: how many pages does the second round ask for?
ROUNDS = """
import resource, torch
from qtlite.experiments.memory import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(25_000) for _ in range(200)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {keep}:
    keep_freed_memory()
pages()
print(pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators differ")
def test_a_second_round_finds_the_memory_of_the_first():
    # settings of the C library's own come first: Dask's, for one, which other tests may have met
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    pages = [
        int(
            subprocess.check_output(
                [sys.executable, "-c", ROUNDS.format(keep=keep)], text=True, env=environment
            )
        )
        for keep in (False, True)
    ]
    if pages[0] < 1000:
        pytest.skip("this allocator keeps freed memory anyway")
    assert pages[1] < 100
