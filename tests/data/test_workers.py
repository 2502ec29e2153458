"""Workers of every start method, and those that break off."""

import multiprocessing
import re
import signal
from types import SimpleNamespace

import pytest
from helpers.fresh import fresh

from detector.data import workers
from detector.data.workers import _end_of, make_loader, received, worker_trouble
from detector.errors import UserError

SCRIPT = """
import multiprocessing, sys
from detector.data.workers import make_loader, received

class Numbers:
    def __len__(self):
        return 4
    def __getitem__(self, item):
        return item

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    print(*received(make_loader(Numbers(), [[0, 1], [2, 3]], list, 1, False)))
"""


@pytest.mark.parametrize("way", multiprocessing.get_all_start_methods())
def test_every_start_method_gives_the_batches(tmp_path, way):
    (tmp_path / "script.py").write_text(SCRIPT)
    told = fresh(tmp_path / "script.py", way)
    assert told.stdout == "[0, 1] [2, 3]\n", told.stderr


class Broken:
    """What the handover of a batch may raise."""

    num_workers = 2

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        yield 1
        raise self.error


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(), RuntimeError("received 0 items of ancdata")])
def test_a_handover_that_breaks_off_names_the_limit_of_files(error):
    with pytest.raises(UserError, match=r"too many open files.*`ulimit -n 65536`.*DATALOADER\.NUM_WORKERS \(now 2\)"):
        list(received(Broken(error)))


def test_an_error_of_the_data_stays_what_it_is():
    with pytest.raises(RuntimeError, match="mine"):
        list(received(Broken(RuntimeError("mine"))))


def test_workers_are_known_until_they_end():
    before = signal.getsignal(signal.SIGCHLD)
    loader = make_loader(range(8), [[0], [1]], list, 1, False)
    batches = received(loader)
    assert next(batches) == [0]
    mine = [worker for worker in workers._running if worker.is_alive()]
    assert mine
    workers._end_all()
    for worker in mine:
        worker.join(5)
        assert worker.exitcode == -9
    batches.close()
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("code", "said"),
    [(-9, "was killed, which the system does when memory runs out"), (-11, r"ended \(Segmentation fault\)"), (1, "")],
)
def test_the_end_of_a_worker_is_known_where_its_connections_end_first(code, said):
    ends = [SimpleNamespace(exitcode=one, join=lambda wait: None) for one in (None, code)]
    end = _end_of(ends)
    assert (end is None) == (not said)
    if end:
        assert re.search(said, worker_trouble(end, "NUM_WORKERS"))
