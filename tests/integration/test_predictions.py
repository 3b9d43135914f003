"""Evaluation from cached predictions: without the network, and all settings of a sweep at once."""

import csv
import json

import pytest

from make.commands import evaluate, run_main
from make.errors import refused
from refine.prediction_cache.cache import PredictionReader, PredictionWriter

LOW = ["fusion.merge.score_thresh=0.05", "data.stuff_area_limit_px=1"]
PQ_KEYS = [f"{k}{s}" for k in ("pq", "sq", "rq") for s in ("", "_things", "_stuff")]


@pytest.fixture(scope="module")
def checkpoint(run):
    return f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}"


@pytest.fixture(scope="module")
def cache(checkpoint, tmp_path_factory):
    """The lossless predictions of five images, and the metrics of the network's own pass."""
    folder = tmp_path_factory.mktemp("cache")
    save = [f"save_predictions={folder / 'full'}", "predictions_form=full"]
    return folder / "full", evaluate(folder / "run", checkpoint, *save, *LOW)


@pytest.mark.parametrize(
    "fusion",
    [
        ["fusion.relations.kind=area"],
        ["fusion.relations.kind=oracle", "fusion.unknown_erasing.mode=oracle"],
        ["fusion.unknown_erasing.mode=score", "fusion.unknown_erasing.score_thresh=0.7"],
    ],
    ids=str,
)
def test_lossless_predictions_give_the_network_s_own_pq(cache, checkpoint, tmp_path, fusion):
    folder, _ = cache
    direct = evaluate(tmp_path / "direct", checkpoint, *LOW, *fusion)
    cached = evaluate(tmp_path / "cached", f"predictions={folder}", *LOW, *fusion)
    assert {k: cached[k] for k in PQ_KEYS} == {k: direct[k] for k in PQ_KEYS}
    assert cached["consensus_gap"] == direct["consensus_gap"]
    read = [(tmp_path / n / "per_image.csv").read_text() for n in ("direct", "cached")]
    assert read[0] == read[1]
    with (tmp_path / "direct" / "per_category.csv").open() as rows:
        assert sum(int(r["tp"]) + int(r["fp"]) for r in csv.DictReader(rows)) > 0


def test_settings_in_one_pass_equal_settings_alone(cache, tmp_path, monkeypatch, capsys):
    folder, _ = cache
    passes, original = [], PredictionReader.read
    monkeypatch.setattr(
        PredictionReader,
        "read",
        lambda self, image_id: passes.append(image_id) or original(self, image_id),
    )
    sweep = [
        "-m", f"predictions={folder}", "fusion.relations.kind=score,area",
        "fusion.unknown_erasing.mode=off,score", f"hydra.sweep.dir={tmp_path / 'sweep'}", *LOW,
        "data.num_workers=0",
    ]  # fmt: skip
    assert run_main("evaluate", *sweep, cwd=tmp_path) == 0
    assert len(passes) == 5  # every image once for all settings
    assert run_main("evaluate", *sweep, cwd=tmp_path) == 0
    assert capsys.readouterr().out.count("finished before") == 4
    assert len(passes) == 5  # every job was finished
    jobs = sorted((tmp_path / "sweep").glob("*/metrics.json"))
    assert len(jobs) == 4
    for kind in ("score", "area"):
        for mode in ("off", "score"):
            chosen = [f"fusion.relations.kind={kind}", f"fusion.unknown_erasing.mode={mode}"]
            alone = evaluate(tmp_path / kind / mode, f"predictions={folder}", *chosen, *LOW)
            (job,) = [p for p in jobs if f"kind-{kind}+mode-{mode}+" in p.parent.name]
            assert json.loads(job.read_text()) == alone
    assert len(passes) == 5 + 4 * 5  # alone, every setting reads every image


def test_a_bad_job_does_not_stop_the_others(cache, tmp_path, capsys):
    code = run_main(
        "evaluate", "-m", f"predictions={cache[0]}",
        "fusion.relations.kind=score,soft_occlusion,area", "fusion.merge.score_thresh=0.5",
        f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path,
    )  # fmt: skip
    finished = {p.parent.name for p in (tmp_path / "sweep").glob("*/DONE")}
    assert {any(k in name for name in finished) for k in ("kind-score", "kind-area")} == {True}
    assert len(finished) == 2
    assert code == 1
    assert "no occlusion head" in capsys.readouterr().err


def test_an_interrupted_write_is_completed(cache, checkpoint, tmp_path, monkeypatch):
    _, metrics = cache
    save = [f"save_predictions={tmp_path / 'cut'}", "predictions_form=full", *LOW]
    original, written = PredictionWriter.write, []

    def write(self, image_id, raw):
        if len(written) == 2 and not (tmp_path / "early").exists():
            raise OSError("power cut")
        written.append(image_id)
        original(self, image_id, raw)

    monkeypatch.setattr(PredictionWriter, "write", write)
    with pytest.raises(OSError, match="power cut"):
        evaluate(tmp_path / "first", checkpoint, *save)
    with refused("2 of 5 images are there"):
        evaluate(tmp_path / "run", f"predictions={tmp_path / 'cut'}")
    (tmp_path / "early").touch()
    result = evaluate(tmp_path / "second", checkpoint, *save)
    assert len(written) == len(set(written)) == 5
    assert {k: result[k] for k in PQ_KEYS} == {k: metrics[k] for k in PQ_KEYS}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "either ckpt_path=FILE or predictions=FOLDER"),
        (["predictions=NOWHERE"], "NOWHERE"),
        (["predictions=CACHE", "draw=2"], "draw=2"),
        (["predictions=CACHE", "from_baseline=true"], "baseline_predictions=FOLDER"),
        (["predictions=CACHE", "fusion.panoptic_only=true"], "panoptic_only=False"),
        (["predictions=CACHE", "data.val_image_ids=[10000001]"], "other images (5, not 1)"),
        (["CHECKPOINT", "save_predictions=x", "trainer.limit_val_batches=2"], "all"),
        (["CHECKPOINT", "save_predictions=CACHE"], "holds other predictions"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_line(cache, checkpoint, tmp_path, overrides, message):
    given = [o.replace("CACHE", str(cache[0])).replace("CHECKPOINT", checkpoint) for o in overrides]
    with refused(message):
        evaluate(tmp_path / "run", *given)
    assert not (tmp_path / "run").exists()


def test_panoptic_only_has_no_ap_and_says_so(checkpoint, tmp_path, capsys):
    metrics = evaluate(tmp_path, checkpoint, "fusion.panoptic_only=true")
    assert metrics["panoptic_only"] is True
    assert "ap_box" not in metrics
    assert "panoptic only" in capsys.readouterr().out


def test_rows_of_the_components_table(cache, tmp_path):
    both = [f"predictions={cache[0]}", f"baseline_predictions={cache[0]}", *LOW]
    erasing = ["fusion.unknown_erasing.mode=score", "fusion.unknown_erasing.score_thresh=1.0"]
    rows = {
        "baseline": evaluate(tmp_path / "baseline", *both, "from_baseline=true"),
        "ibpp": evaluate(tmp_path / "ibpp", *both),
        "ibpp_ue": evaluate(tmp_path / "ibpp_ue", *both, *erasing),
    }
    assert rows["baseline"] == rows["ibpp"]  # here both are predictions of one network
    assert rows["ibpp"]["erased_segments"] == 0
    assert rows["ibpp_ue"]["erased_segments"] > 0
