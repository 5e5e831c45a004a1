"""Following a log that grows: each finding is said when it begins, and when it is over."""

from __future__ import annotations

import os

import pytest
from command_line import recast
from planted_logs import rollouts as planted

from workbench.commands.log_options import LogOptions
from workbench.commands.watch import Pace
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.watch import follow


def reading() -> LogOptions:
    return LogOptions("", Choice(), None, 1e-6, None)


def grown(path, stages):
    """A `wait` that writes the next stage of a log, and ends after the last."""
    left = list(stages)

    def wait() -> bool:
        if not left:
            return False
        planted.as_jsonl(left.pop(0), path)
        # The same second and size must not hide a change.
        os.utime(path, ns=(len(left), len(left)))
        return True

    return wait


def test_a_finding_is_said_once_when_it_begins_and_once_when_it_is_over(tmp_path):
    path = tmp_path / "log.jsonl"
    healthy = planted.log(steps=6)
    dead = [
        {**row, "step": row["step"] + 6, "reward": 0.0, "advantage": 0.0}
        for row in planted.log(1, steps=6)
    ]
    again = [{**row, "step": row["step"] + 12} for row in planted.log(2, steps=12)]
    stages = [healthy, healthy + dead, healthy + dead, healthy + dead + again]
    seen = list(follow([path], reading().look, grown(path, stages)))
    assert seen[0].answer is None
    assert "no such file" in seen[0].why
    began = [{one.name for one in each.began} for each in seen[1:]]
    assert began[0] == set()
    assert "starved" in began[1]
    assert "starved" not in began[2]
    assert "starved" in seen[4].over


def test_files_that_do_not_change_are_not_read_again(tmp_path):
    path = planted.as_jsonl(planted.log(steps=3), tmp_path / "log.jsonl")
    looks, left = [], [1, 2, 3]

    def look(files):
        looks.append(files)
        return reading().look(files)

    def wait() -> bool:
        return bool(left and left.pop())

    assert len(list(follow([path], look, wait))) == len(looks) == 1


def test_an_unreadable_log_is_waited_out_and_said_once(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "pro')
    left = [1, 2]
    seen = list(follow([path], reading().look, lambda: bool(left and left.pop())))
    assert len(seen) == 1
    assert seen[0].why.startswith("nothing readable")


@pytest.mark.parametrize("fails", [True, False])
def test_a_watched_log_ends_with_one_on_the_finding_that_was_named(fails, tmp_path):
    path = planted.as_jsonl(planted.log(mean=0.02, batch=32), tmp_path / "log.jsonl")
    name = "starved" if fails else "saturated"
    done = recast("watch", str(path), "--once", "--fail-on", name)
    assert done.returncode == int(fails)
    assert "begins: problem: starved" in done.stdout


def test_what_was_never_readable_is_no_healthy_log(tmp_path):
    done = recast("watch", str(tmp_path / "none"), "--once", "--fail-on", "starved")
    assert done.returncode == 2
    assert done.stderr.count("no such file or folder") == 2


def test_a_line_that_is_still_written_is_no_fault_and_any_other_is_said_once(tmp_path, capsys):
    path = planted.as_jsonl(planted.log(steps=3), tmp_path / "log.jsonl")
    options = reading()
    options.grows = True
    for written in ('{"step": 4, "pro', "broken}\n", '{"step": 4, "pro'):
        with path.open("a") as stream:
            stream.write(written)
        options.look([path])
    said = [line for line in capsys.readouterr().err.splitlines() if ".jsonl" in line]
    assert len(said) == 1
    assert said[0].endswith("no valid JSON")


def test_a_pause_takes_three_times_what_the_look_took_but_not_beyond_the_idle_time(monkeypatch):
    now, slept = [0.0], []
    monkeypatch.setattr("workbench.commands.watch.time.monotonic", lambda: now[0])
    monkeypatch.setattr("workbench.commands.watch.time.sleep", slept.append)
    for idle in (0.0, 50.0):
        pace = Pace(10.0, idle, once=False, awake=now[0])
        for look in (0.1, 24.0):
            now[0] += look
            assert pace.wait() is (idle == 0.0 or look < 1)
            pace.awake = now[0]
    assert slept == [10.0, 72.0, 10.0]


@pytest.mark.parametrize("name", ["starved", "saturated"])
def test_the_page_of_a_watched_log_loads_itself_again_until_the_watch_ends(name, tmp_path):
    path = planted.as_jsonl(planted.log(mean=0.02, batch=32, steps=6), tmp_path / "log.jsonl")
    html = tmp_path / "log.html"
    more = ("--every", "0.1", "--idle", "0.1", "--html", str(html), "--fail-on", name)
    assert recast("watch", str(path), *more).returncode == (name == "starved")
    assert ('http-equiv="refresh" content="1"' in html.read_text()) is (name != "starved")
