import multiprocessing
import time

from make.errors import refused
from refine.runs.folder_lock import lock_folder


def test_one_at_a_time_and_nothing_is_left(tmp_path):
    folder = tmp_path / "a" / "run"
    with lock_folder(folder):
        (folder / ".metrics.json.x.part").touch()
        with refused(folder, "another process"), lock_folder(folder):
            raise AssertionError
        # a loader's process must not keep the lock when its parent is gone
        context = multiprocessing.get_context("fork")
        runs = context.Event()
        child = context.Process(target=lambda: runs.set() or time.sleep(60))
        child.start()
        runs.wait()
    with lock_folder(folder):
        assert not [*folder.iterdir()]
        (folder / "DONE").touch()
    child.kill()
    assert [p.name for p in folder.iterdir()] == ["DONE"]
    with (
        refused(folder / "DONE" / "run", "hydra.run.dir=FOLDER"),
        lock_folder(folder / "DONE" / "run"),
    ):
        raise AssertionError


def test_other_processes_of_a_run_enter_with_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with lock_folder(tmp_path), lock_folder(tmp_path):
        pass
    assert tmp_path.is_dir()
