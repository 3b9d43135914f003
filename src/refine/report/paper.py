"""Tables 1 to 6 of the paper: what it prints, and which runs may stand beside it.

Printed values are those of the paper times 100 (COCO, one scale of 800 x 1333). A value that
contradicts others of its own row is listed in ``doubtful``. The AP columns of table 4 are promised
by its caption and missing in print. Rows without printed values are controls that the paper lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refine.report.rows import Rule

NAMES = {
    "pq": "PQ",
    "pq_things": "PQ things",
    "pq_stuff": "PQ stuff",
    "sq": "SQ",
    "rq": "RQ",
    "sq_things": "SQ things",
    "rq_things": "RQ things",
    "ap_box": "AP box",
    "ap_mask": "AP mask",
    "images_per_second": "images/s",
}
"""Columns by the key of ``metrics.json``."""

_QUALITY = ("pq", "pq_things", "pq_stuff")
_ALL = (*_QUALITY, "sq", "rq")
_SPEED = (*_QUALITY, "ap_box", "ap_mask", "images_per_second")
_THINGS = ("pq_things", "sq_things", "rq_things")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row.

    Attributes:
        label: What it is.
        printed: By metric key, times 100 (images per second as they are).
        rule: Which runs belong to it; None if we have no means to run it.
        doubtful: Keys of ``printed`` that are misprints.
        note: What is to be known of it.
    """

    label: str
    printed: Mapping[str, float] = field(default_factory=dict)
    rule: Rule | None = None
    doubtful: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """One table.

    Attributes:
        number: In the paper.
        title: What it compares.
        columns: Metric keys.
        rows: In the paper's order.
        reference: Index of the row that differences are to.
        main_backbone: Of the rows that other datasets than COCO have, too; None: no such rows.
        is_of_fusion: The rows differ in the fusion alone, so they are to be of one network's
            predictions: evaluations count before trainings.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    reference: int = 0
    main_backbone: str | None = None
    is_of_fusion: bool = False


def _row(
    label: str,
    values: tuple[float | None, ...] = (),
    *,
    columns: tuple[str, ...],
    rule: Rule | None = None,
    doubtful: tuple[str, ...] = (),
    note: str = "",
) -> PaperRow:
    given = dict(zip(columns, values, strict=False))
    printed = {key: value for key, value in given.items() if value is not None}
    return PaperRow(
        label=label, printed=printed, rule=rule, doubtful=frozenset(doubtful), note=note
    )


_TEST_DEV = "test-dev: only COCO's server scores it"
_RQ = "RQ 57.6 cannot go with PQ 54.8 and SQ 83.9, which imply 65.3"


def _table_1() -> PaperTable:
    rivals = {
        "UPSNet, R50 (val; printed as UPNet)": (42.5, 48.5, 33.4, 78.0, 52.4),
        "Panoptic-FPN, R101 (test-dev)": (40.9, 48.3, 29.7),
        "OANet, R101 (test-dev)": (41.3, 50.4, 27.7),
        "AUNet, X152-DCN, multi-scale (test-dev)": (46.5, 55.9, 32.5, 81.0, 56.1),
        "UPSNet, R101-DCN, multi-scale (test-dev)": (46.6, 53.2, 36.7, 80.5, 56.9),
        "OCFusion, X101-DCN, multi-scale (test-dev)": (46.7, 54.0, 35.7),
        "SOGNet, R101-DCN, multi-scale (test-dev)": (47.8, None, None, 80.7, 57.6),
        "UTIPS, R101-DCN (test-dev)": (47.2, 53.5, 37.7, 81.1, 57.2),
        "DetectoRS, X101-DCN, multi-scale (test-dev)": (49.6, 57.8, 37.1),
    }
    refine = Rule("r50", "T=3", "soe+ue")
    return PaperTable(
        number=1,
        title="REFINE and its rivals on COCO",
        columns=_ALL,
        rows=(
            *(_row(label, values, columns=_ALL) for label, values in rivals.items()),
            _row("REFINE, R50 (val)", (44.9, 51.7, 34.7, 79.4, 54.2), columns=_ALL, rule=refine),
            _row(
                "REFINE, R101-DCN (test-dev)",
                (49.6, 57.5, 37.7, 81.7, 59.3),
                columns=_ALL,
                note=_TEST_DEV,
            ),
            _row(
                "REFINE, X101-DCN (test-dev)",
                (51.5, 59.6, 39.2, 82.6, 61.3),
                columns=_ALL,
                note=_TEST_DEV,
            ),
        ),
        reference=9,
    )


def _table_2() -> PaperTable:
    return PaperTable(
        number=2,
        title="baselines with their speed",
        columns=_SPEED,
        rows=(
            _row(
                "Panoptic-FPN, R101",
                (40.9, 48.3, 30.0, None, None, 10.0),
                columns=_SPEED,
                rule=Rule("r101", "plain", "heuristic"),
            ),
            _row(
                "Cascade Panoptic-FPN, R101-DCN",
                (46.1, None, None, 47.4, 41.3, 7.3),
                columns=_SPEED,
                rule=Rule("r101-dcn", "cascade", "heuristic"),
            ),
            _row(
                "REFINE, R101-DCN",
                (49.3, 57.0, 37.7, 48.0, 41.8, 5.5),
                columns=_SPEED,
                rule=Rule("r101-dcn", "T=3", "soe+ue"),
            ),
        ),
    )


def _table_3() -> PaperTable:
    rows = (
        ("Panoptic-FPN", (39.6, 46.1, 29.8), Rule("r50", "plain", "heuristic")),
        ("+ IBPP", (42.2, 48.4, 32.9), Rule("r50", "T=3", "heuristic")),
        ("+ IBPP + SOE", (44.2, 51.7, 32.9), Rule("r50", "T=3", "soe")),
        ("+ IBPP + SOE + UE", (44.9, 51.7, 34.7), Rule("r50", "T=3", "soe+ue")),
        ("+ IBPP + UE, no SOE", (), Rule("r50", "T=3", "ue")),
        ("+ IBPP + UE by an oracle", (), Rule("r50", "T=3", "ue-oracle")),
    )
    return PaperTable(
        number=3,
        title="what each part adds",
        columns=_QUALITY,
        rows=tuple(_row(label, v, columns=_QUALITY, rule=rule) for label, v, rule in rows),
        main_backbone="r50",
    )


def _table_4() -> PaperTable:
    columns = (*_QUALITY, "ap_box", "ap_mask")

    def row(label: str, values: tuple[float, ...], network: str, **more: str) -> PaperRow:
        backbone = more.get("backbone", "r50")
        implied = more.get("implied")
        return _row(
            label,
            values,
            columns=columns,
            rule=Rule(backbone, network, "heuristic"),
            doubtful=("pq",) if implied else (),
            note=f"things and stuff imply PQ {implied}" if implied else "",
        )

    return PaperTable(
        number=4,
        title="iterations of IBPP",
        columns=columns,
        rows=(
            row("baseline (as in table 3)", (39.6, 46.1, 29.8), "plain"),
            row("T = 1", (41.0, 47.5, 30.7), "T=1", implied="40.8"),
            row("T = 2", (41.6, 48.0, 31.5), "T=2", implied="41.4"),
            row("T = 3", (42.2, 48.4, 32.9), "T=3"),
            row("T = 0, box cascade alone", (), "cascade"),
            row("T = 3, semantics to instances only", (), "sem_to_ins"),
            row("T = 3, instances to semantics only", (), "ins_to_sem"),
            row("T = 3, only features cross", (), "features"),
            row("T = 3, only predictions cross", (), "predictions"),
            row("R101, baseline", (40.9, 48.3, 30.0), "plain", backbone="r101"),
            row("R101, T = 3", (43.4, 49.4, 34.4), "T=3", backbone="r101"),
        ),
        main_backbone="r50",
    )


def _table_5() -> PaperTable:
    rows: tuple[tuple[str, tuple[float, ...], str], ...] = (
        ("heuristic (score)", (54.8, 83.9, 57.6), "heuristic"),
        ("spatial hierarchy (SHR)", (56.9, 84.1, 67.2), "shr"),
        ("ranking module (SRM)", (57.1, 83.6, 67.8), "srm"),
        ("OCFusion", (58.4, 83.9, 69.2), "ocfusion"),
        ("Strong Baseline", (58.5, 83.9, 69.3), "strong"),
        ("SOE, sigma 2.0", (58.8, 84.1, 69.5), "soe-2.0"),
        ("SOE, sigma 2.5", (58.9, 84.2, 69.5), "soe-2.5"),
        ("SOE, sigma 4.0", (58.6, 84.2, 69.1), "soe-4.0"),
        ("smaller mask on top", (), "area"),
        ("category-pair statistics", (), "statistics"),
        ("true order (oracle)", (), "oracle"),
    )
    return _things_table(5, "which instance lies on top", rows)


def _table_6() -> PaperTable:
    rows: tuple[tuple[str, tuple[float, ...], str], ...] = (
        ("none (heuristic)", (54.8, 83.9, 57.6), "heuristic"),
        ("mask", (57.4, 83.8, 67.8), "mask"),
        ("mask + feature", (58.4, 83.9, 69.2), "ocfusion"),
        ("mask + feature + label", (58.5, 83.9, 69.3), "strong"),
        ("mask + feature + label, sigma 2.5", (58.9, 84.2, 69.5), "soe-2.5"),
        ("feature alone", (), "feature"),
        ("label alone", (), "label"),
    )
    return _things_table(6, "what the occlusion network reads", rows)


def _things_table(
    number: int, title: str, rows: tuple[tuple[str, tuple[float, ...], str], ...]
) -> PaperTable:
    def row(label: str, values: tuple[float, ...], fusion: str) -> PaperRow:
        is_misprinted = fusion == "heuristic"
        return _row(
            label,
            values,
            columns=_THINGS,
            rule=Rule("x101-dcn", "T=3", fusion),
            doubtful=("rq_things",) if is_misprinted else (),
            note=_RQ if is_misprinted else "",
        )

    return PaperTable(
        number=number,
        title=title,
        columns=_THINGS,
        rows=tuple(row(*parts) for parts in rows),
        main_backbone="x101-dcn",
        is_of_fusion=True,
    )


TABLES = (_table_1(), _table_2(), _table_3(), _table_4(), _table_5(), _table_6())
"""All of them."""
