"""Tables of reports."""

from ln3d.stages.score_tables import aligned, table


def test_columns_line_up() -> None:
    assert aligned([["a", "bcd"], ["ef", "g"]]) == ["a   bcd", "ef  g"]


def test_missing_figures_are_dashes() -> None:
    rows = {
        "train": {"all": {"count": 2, "psnr": 24.5}, "categories": {}},
        "test": {"all": {"count": 0}, "categories": {}},
    }
    head, train, test = table({"metric": "psnr", "details": rows})
    assert head.split()[:4] == ["split", "category", "objects", "PSNR"]
    assert train.split()[:5] == ["train", "all", "2", "24.50", "-"]
    assert test.split()[2:5] == ["0", "-", "-"]
