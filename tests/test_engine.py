"""Workers do not outlive the run that started them."""

import os
import signal
import subprocess
import sys
import time

from analysis.store import ROOT

DRIVER = """
import os, time
from analysis.engine import _pool

if __name__ == "__main__":
    with _pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_a_killed_drivers_workers_leave_in_the_middle_of_their_work(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    os.kill(worker, 0)  # it is there
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for _ in range(100):
        if not _running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker went on without its driver")


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A worker that ended without a parent to collect it is a zombie until init does.
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
