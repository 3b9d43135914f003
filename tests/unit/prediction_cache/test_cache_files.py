import multiprocessing
import pickle
import weakref
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from make.errors import refused
from make.predictions import IDS, SMALL, a_header, assert_same, fake_prediction, write_all
from refine.prediction_cache.cache import PredictionReader, PredictionWriter
from refine.prediction_cache.tensor_file import read_tensors, write_tensors


def test_a_reader_travels_to_other_processes_and_keeps_no_prediction(cache):
    pickled = pickle.dumps(PredictionReader(cache))
    assert len(pickled) < 3000
    images = iter(pickle.loads(pickled))
    first = weakref.ref(next(images)[1].semantic_logits)
    next(images)
    assert first() is None


def test_what_was_read_outlives_the_file(cache, raws):
    raw = PredictionReader(cache).read(3)
    (cache / "images" / "3.safetensors").write_bytes(b"")
    assert_same(raw, raws[3], "semantic_logits", "mask_logits")
    raw.scores += 1  # not a window into the file


# --- writing in several attempts and processes ---


def test_an_interrupted_write_goes_on_and_leaves_nothing_that_counts(tmp_path, raws):
    write_all(tmp_path, a_header(), {7: raws[7]}, finish=False)
    with refused(tmp_path, "cut short, 1 of 3", "run the command that wrote it again"):
        PredictionReader(tmp_path)
    writer = PredictionWriter(tmp_path, a_header())
    part = tmp_path / "images" / ".139.safetensors.abcd1234.part"
    part.write_bytes(writer.image_path(7).read_bytes()[:1000])  # of a killed process
    assert writer.missing(IDS) == [3, 139]
    with refused("2 of 3 images", "image 3", "run the same command again"):
        writer.finish(IDS)
    with pytest.raises(ValueError, match="image ids"):
        writer.finish([7])
    assert not writer.index_path.exists()
    for image_id in writer.missing(IDS):
        writer.write(image_id, raws[image_id])
    with refused("cut short, 3 of 3"):
        PredictionReader(tmp_path)
    writer.finish(IDS)
    assert not list(tmp_path.rglob("*.part"))
    assert PredictionReader(tmp_path).image_ids.tolist() == IDS
    assert PredictionWriter(tmp_path, a_header()).missing(IDS) == []


def _write_share(folder, ids):
    torch.set_num_threads(1)
    return write_all(
        folder, a_header(), {i: fake_prediction(**SMALL, seed=i) for i in ids}, finish=False
    ).missing([7])


def test_processes_write_at_once(tmp_path, raws):
    folder = tmp_path / "new" / "cache"
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        # 7 twice, as a distributed sampler repeats images to fill up
        list(pool.map(_write_share, [folder, folder], [[7, 139], [7, 3]]))
    PredictionWriter(folder, a_header()).finish(IDS)
    for image_id, raw in PredictionReader(folder):
        assert_same(raw, raws[image_id], "scores", "semantic_logits")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"form": "compact"}, ("form is 'full', not 'compact'",)),
        ({"panoptic_only": True}, ("panoptic_only is False, not True",)),
        ({"checkpoint": {"sha256": "other"}}, ("checkpoint.sha256", "c0ffee", "other")),
        ({"checkpoint": {"sha256": "c0ffee", "t": 3}}, ("checkpoint.t is None, not 3",)),
        ({"occlusion_heads": ("soft",)}, ("occlusion_heads",)),
        ({"ids": [7, 3]}, ("dataset.image_ids",)),
        ({"package": "0.0.0"}, ("package", "0.0.0")),
    ],
)
def test_a_write_under_another_header_is_refused(cache, changes, words):
    with refused(cache, *words, "save_predictions"):
        PredictionWriter(cache, a_header(**changes))


def test_a_header_of_tuples_and_floats_is_the_same_after_a_round_trip(tmp_path):
    header = a_header(
        checkpoint={"sizes": (1, 2), "lr": 0.1 + 0.2, "deep": {"none": None}},
        occlusion_heads=("a", "b"),
    )
    PredictionWriter(tmp_path, header)
    assert PredictionWriter(tmp_path, header).load_header().digest == header.digest


def test_other_places_are_left_alone(tmp_path, raws):
    folder, file, spoilt = (tmp_path / name for name in ("folder", "file", "spoilt"))
    folder.mkdir()
    for path in (folder / "thesis.tex", file):
        path.write_text("")
    with refused(folder, "thesis.tex", "empty folder"):
        PredictionWriter(folder, a_header())
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]
    with refused(file, "a file"):
        PredictionWriter(file, a_header())
    writer = PredictionWriter(spoilt, a_header())
    (spoilt / "images").write_text("")
    with refused(spoilt, "fix that"):
        writer.write(7, raws[7])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", ["boxes", "scores", "mask_logits", "semantic_logits", "occlusion/o", "ranking/r"]
)
def test_predictions_that_are_not_finite_are_refused(tmp_path, name, value):
    raw = fake_prediction(**SMALL, heads=("o",), rankings=("r",))
    values = {"occlusion/o": raw.occlusions["o"].probabilities, "ranking/r": raw.rankings["r"]}
    values.get(name, getattr(raw, name, None)).view(-1)[0] = value
    writer = PredictionWriter(tmp_path, a_header(occlusion_heads=("o",), ranking_heads=("r",)))
    with refused("image 3", name, "not finite"):
        writer.write(3, raw)
    assert writer.missing([3]) == [3]


def test_predictions_that_contradict_the_header_are_a_bug(tmp_path, raws):
    writer = PredictionWriter(tmp_path, a_header())
    with pytest.raises(ValueError, match="heads"):
        writer.write(7, replace(raws[7], rankings={"srm": raws[7].scores}))
    with pytest.raises(ValueError, match="11 semantic categories"):
        writer.write(7, replace(raws[7], semantic_logits=raws[7].semantic_logits[1:]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"form": "tiny"}, "predictions_form"),
        ({"score_thresh": 1.5}, "score_thresh"),
        ({"occlusion_heads": ("a/b",)}, "slash"),
    ],
)
def test_settings_that_make_no_sense_are_a_bug(settings, words):
    with pytest.raises(ValueError, match=words):
        a_header(**settings)


# --- damage ---


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_a_torn_file_is_named_and_written_anew(cache, raws, size):
    path = cache / "images" / "3.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    reader = PredictionReader(cache)
    assert_same(reader.read(7), raws[7], "scores")
    with refused(path, "torn", "run the command that wrote the cache again"):
        reader.read(3)
    writer = PredictionWriter(cache, a_header())
    assert writer.missing(IDS) == [3]
    with refused("1 of 3 images", "image 3"):
        writer.finish(IDS)
    writer.write(3, raws[3])
    assert_same(reader.read(3), raws[3], "scores")


def test_a_file_of_another_cache_or_image_is_refused(tmp_path, cache, raws):
    other = write_all(tmp_path / "other", a_header(checkpoint={}), raws)
    path = cache / "images" / "7.safetensors"
    for stranger in (other.image_path(7), cache / "images" / "3.safetensors"):
        path.write_bytes(stranger.read_bytes())
        with refused(path, "another cache or image"):
            PredictionReader(cache).read(7)
    path.write_bytes(other.image_path(7).read_bytes())
    assert PredictionWriter(cache, a_header()).missing([7]) == [7]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"image_ids": ["7"]}', '{"image_ids": [7]}'])
def test_a_file_that_is_gone_or_a_damaged_index_counts_as_cut_short(cache, content):
    (cache / "images" / "139.safetensors").unlink()
    with refused(cache, "cut short, 2 of 3"):
        PredictionReader(cache)
    (cache / "index.json").write_text(content)
    with refused(cache, "cut short"):
        PredictionReader(cache)


@pytest.mark.parametrize("damage", ["semantic/counts", "scores", "occlusion/soft/pairs"])
def test_tensors_that_contradict_each_other_are_refused(tmp_path, damage):
    raw = fake_prediction(**SMALL, heads=("soft",))
    write_all(tmp_path, a_header([3], "compact", occlusion_heads=("soft",)), {3: raw})
    path = tmp_path / "images" / "3.safetensors"
    tensors, record = read_tensors(path)
    if damage == "semantic/counts":
        tensors[damage] += 1
    else:
        del tensors[damage]
    write_tensors(path, tensors, record)
    with refused("3.safetensors", "torn"):
        PredictionReader(tmp_path).read(3)
