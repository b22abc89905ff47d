"""Texts as they are found in the wild, and trees of files that stand for those of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolring.cgroups import Room, cores, directories, memory, number, processes, waited

V2 = """\
24 29 0:22 / /proc rw,nosuid shared:12 - proc proc rw
34 24 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:13 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:16 - cgroup cgroup rw,memory
"""
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
CONTAINER_V1 = "731 729 0:32 /docker/0af3 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"


def found(controller: str, cgroup: str, mountinfo: str) -> list[str]:
    return [str(path).removeprefix("/sys/fs/cgroup") for path in directories(controller, cgroup, mountinfo)]


def test_version_2_has_one_tree_for_all() -> None:
    own = "0::/user.slice/app.service\n"
    for controller in ("memory", "cpu"):
        assert found(controller, own, V2) == ["/user.slice/app.service", "/user.slice", ""]


def test_version_1_has_a_tree_for_each() -> None:
    own = "9:name=systemd:/\n4:memory:/jobs/a\n2:cpu,cpuacct:/b\n0::/\n"
    assert found("memory", own, V1) == ["/memory/jobs/a", "/memory/jobs", "/memory"]
    assert found("cpu", own, V1) == ["/cpu,cpuacct/b", "/cpu,cpuacct"]


def test_where_both_are_mounted_a_controller_is_in_one() -> None:
    own = "4:memory:/jobs\n0::/init.scope\n"
    assert found("memory", own, HYBRID) == ["/memory/jobs", "/memory"]
    assert found("pids", own, HYBRID) == ["/unified/init.scope", "/unified"]


def test_a_container_sees_its_own_part() -> None:
    assert found("memory", "4:memory:/docker/0af3\n", CONTAINER_V1) == ["/memory"]
    assert found("memory", "4:memory:/docker/0af3/job\n", CONTAINER_V1) == ["/memory/job", "/memory"]
    assert found("memory", "4:memory:/elsewhere\n", CONTAINER_V1) == ["/memory"], "of another namespace"
    assert found("memory", "0::/../../app\n", V2) == [""]


def test_a_mount_may_have_blanks_and_there_may_be_none() -> None:
    mount = r"34 24 0:29 / /mnt/my\040groups rw - cgroup2 cgroup2 rw" + "\n"
    assert directories("memory", "0::/a\n", mount) == [Path("/mnt/my groups/a"), Path("/mnt/my groups")]
    assert directories("memory", "0::/a\n", "") == []
    assert directories("memory", "", "") == []


def test_the_share_of_time_that_was_waited() -> None:
    assert (
        waited("some avg10=12.50 avg60=3.10 avg300=0.00 total=9\nfull avg10=1.00 avg60=0 avg300=0 total=1\n") == 0.125
    )
    assert waited("") is None


# ---- what they allow


def group(path: Path, **files: object) -> Path:
    path.mkdir(exist_ok=True)
    for name, value in files.items():
        (path / name.replace("_", ".", 1)).write_text(f"{value}\n")
    return path


def test_the_fullest_group_counts_whichever_it_is(tmp_path: Path) -> None:
    parent = group(tmp_path, memory_max=1000, memory_current=900, memory_stat="anon 500\ninactive_file 100")
    own = group(tmp_path / "own", memory_max=5000, memory_current=500, memory_stat="inactive_file 0")
    assert memory([own, parent]) == Room(1000, 800)
    (own / "memory.current").write_text("4900\n")
    assert memory([own, parent]) == Room(5000, 4900)


def test_no_limit_is_none(tmp_path: Path) -> None:
    assert memory([]) is None
    assert memory([group(tmp_path / "a", memory_max="max", memory_high="max", memory_current=9)]) is None
    none = 9223372036854771712
    assert memory([group(tmp_path / "b", memory_limit_in_bytes=none, memory_usage_in_bytes=9)]) is None
    assert memory([group(tmp_path / "c")]) is None


def test_a_limit_that_slows_down_is_one(tmp_path: Path) -> None:
    assert memory([group(tmp_path, memory_max="max", memory_high=700, memory_current=70)]) == Room(700, 70)


def test_version_1_counts_those_below_under_another_name(tmp_path: Path) -> None:
    own = group(tmp_path, memory_limit_in_bytes=1000, memory_usage_in_bytes=800)
    (own / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 300\n")
    assert memory([own]) == Room(1000, 500)


@pytest.mark.parametrize(
    ("files", "least"),
    [
        ({"cpu_max": "150000 100000"}, 1.5),
        ({"cpu_max": "max 100000"}, None),
        ({"cpu_cfs_quota_us": 50000, "cpu_cfs_period_us": 100000}, 0.5),
        ({"cpu_cfs_quota_us": -1, "cpu_cfs_period_us": 100000}, None),
        ({}, None),
    ],
)
def test_cores(tmp_path: Path, files: dict[str, object], least: float | None) -> None:
    assert cores([group(tmp_path / "own", **files), group(tmp_path, cpu_max="400000 100000")]) == (least or 4.0)
    assert cores([tmp_path / "own"]) == least


def test_of_processes_the_least_room_counts(tmp_path: Path) -> None:
    own, parent = group(tmp_path / "own", pids_max=100, pids_current=5), group(tmp_path, pids_max=500, pids_current=480)
    assert processes([own, parent]) == Room(500, 480)
    assert processes([group(tmp_path / "none", pids_max="max", pids_current=5)]) is None


def test_a_number_that_is_none(tmp_path: Path) -> None:
    assert number(tmp_path / "missing") is None
    assert Room(0, 0).share == 1.0
