"""What is said to a person, how loud, and that it all goes to stderr."""

import pytest

from ln3d.talk import Progress, Talk


@pytest.mark.parametrize(
    ("verbosity", "heard"), [(-1, []), (0, ["warning: c"]), (1, ["a", "warning: c"]), (2, ["a", "b", "warning: c"])]
)
def test_loudness(verbosity: int, heard: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk(verbosity)
    talk.say("a")
    talk.detail("b")
    talk.warn("c")
    said = capsys.readouterr()
    assert said.err.splitlines() == heard
    assert said.out == ""


def test_progress_is_a_line_now_and_then_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("ln3d.talk.time.monotonic", lambda: clock[0])
    progress = Progress("work", total=40, done=10, _start=100.0, _last_line=100.0)
    for _ in range(30):
        clock[0] += 1.0
        progress.advance(1, loss=0.123456, name="x")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "work: 25/40  1.00/s  15 s left  loss 0.1235  name x",
        "work: 40/40  1.00/s  0 s left  loss 0.1235  name x",
    ]


def test_quiet_progress_counts_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with Talk(0).progress("work", total=1) as progress:
        progress.advance()
    assert progress.done == 1
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_is_told_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Talk(1).progress("work", total=3) as progress:
        progress.advance(2, loss=0.5)
    assert progress.done == 2
    assert capsys.readouterr().out == ""
    told: list[tuple[int, str]] = []
    Progress("work", 3, bar=lambda done, words: told.append((done, words))).advance(2, loss=0.5)
    assert told == [(2, "loss 0.5")]
