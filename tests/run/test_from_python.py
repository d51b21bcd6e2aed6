"""What `bihm.train` does to the process that calls it."""

import logging
import threading
import time

from small_run import tiny

from bihm.run import from_python
from bihm.run.from_python import train_run


def test_trainings_of_several_threads_have_a_log_each(tmp_path, monkeypatch):
    log, before = logging.getLogger("bihm"), logging.getLogger("bihm").propagate
    begun = threading.Event()

    def slow(config, directory):
        directory.mkdir()
        for _ in range(3):
            log.info("of %s", directory.name)
            begun.set()
            time.sleep(0.01)
        return {}

    monkeypatch.setattr(from_python, "train", slow)
    monkeypatch.setattr(from_python, "read_run", lambda directory: None)
    threads = []
    for name in ("a", "b"):
        threads.append(threading.Thread(target=train_run, args=(tiny(), tmp_path / name)))
        threads[-1].start()
        begun.wait(10)
    for thread in threads:
        thread.join()
    for name in ("a", "b"):
        lines = (tmp_path / name / "train.log").read_text().splitlines()
        assert [line.partition(" of ")[2] for line in lines] == [name] * 3
    assert (log.propagate, log.handlers) == (before, [])
