import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a shell's background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that tests start inherit it
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton, whose kernels read it


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def interrupted_after():
    """Press Ctrl-C as soon as the checkpoint after ``n_epochs`` epochs is written."""

    @contextmanager
    def interruption(n_epochs: int) -> Iterator[None]:
        from qtlite.experiments.train import loop
        from qtlite.experiments.train.checkpoint import write_checkpoint

        def write_and_stop(path, run):
            write_checkpoint(path, run)
            if len(run.history) == n_epochs:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "write_checkpoint", write_and_stop)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interruption


@pytest.fixture
def one_thread():
    """Many small operations: torch's threads would only wait for one another."""
    with _threads(1):
        yield


@pytest.fixture
def two_threads():
    with _threads(2):
        yield
