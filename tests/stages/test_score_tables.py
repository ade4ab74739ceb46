"""Tables of reports."""

from ln3d.stages.score_tables import aligned, overview, table


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


def test_a_column_without_figures_is_left_out() -> None:
    rows = {"train": {"all": {"count": 2, "psnr": 24.5, "lpips": 0.1}, "categories": {}}}
    head, row = table({"metric": "lpips", "details": rows})
    assert head.split()[:7] == ["split", "category", "objects", "PSNR", "in", "mask", "SSIM"]
    assert "LPIPS" in head and "0.100" in row
    del rows["train"]["all"]["lpips"]
    assert "LPIPS" not in table({"metric": "psnr", "details": rows})[0]


def test_other_systems_have_lines_of_their_own() -> None:
    def report(system: str, value: float) -> dict:
        scores = {"value": value, "low": value - 1, "high": value + 1, "count": 40}
        details = {"all": scores, "held_out": {"value": value + 5, "count": 4}, "generated": 8, "failed": 0}
        return {"metric": "fid[net]", "unit": "", "system": system, "details": details}

    assert table(report("model", 20), [report("lgm", 30)]) == [
        "system  samples  reference  objects  fid[net] (95 %)",
        "model   8        all        40       20.00 (19.00 to 21.00)",
        "model   8        held out   4        25.00",
        "lgm     8        all        40       30.00 (29.00 to 31.00)",
        "lgm     8        held out   4        35.00",
    ]


def test_the_overview_has_a_line_per_metric() -> None:
    results = {
        "fid": {"fid": 12.5, "interval": [11.0, 14.0], "unit": ""},
        "cov": {"cov": 40.0, "interval": [30.0, 50.0], "unit": "%"},
    }
    assert overview(results) == [
        "metric  value  95 %            unit",
        "fid     12.50  11.00 to 14.00  -",
        "cov     40.00  30.00 to 50.00  %",
    ]
