"""What a container was given counts, and not what its host has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.limits import Read, cores, cpu_quota, free_memory, memory_room, total_memory

GB = 10**9
HOST = {
    "/proc/meminfo": "MemTotal:       64000000 kB\nMemFree: 1 kB\nMemAvailable:   32000000 kB\n"
}
TWO = {**HOST, "/proc/self/cgroup": "0::/user.slice/app\n"}
GROUP = "/sys/fs/cgroup/user.slice/app"
ONE = {
    **HOST,
    "/proc/self/cgroup": (
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n"
    ),
}


def read(files: dict[str, str]) -> Read:
    return files.get


def test_without_control_groups_the_machine_counts() -> None:
    for files in (HOST, TWO, ONE):
        assert cpu_quota(read(files)) is None
        assert memory_room(read(files)) is None
        assert free_memory(read(files)) == 32_000_000 * 1024
        assert total_memory(read(files)) == 64_000_000 * 1024


def test_version_two_the_least_of_all_groups_above_counts() -> None:
    files = {
        **TWO,
        f"{GROUP}/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
        f"{GROUP}/memory.max": f"{4 * GB}\n",
        f"{GROUP}/memory.current": f"{3 * GB}\n",
        f"{GROUP}/memory.stat": f"anon 5\ninactive_file {GB}\n",
        "/sys/fs/cgroup/user.slice/memory.max": "max\n",
    }
    assert cpu_quota(read(files)) == 1.5
    assert memory_room(read(files)) == (4 * GB, 2 * GB)
    assert free_memory(read(files)) == 2 * GB
    assert total_memory(read(files)) == 4 * GB


def test_version_one_in_a_container_whose_path_is_the_hosts() -> None:
    files = {
        **ONE,
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
        "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert cpu_quota(read(files)) == 2
    assert memory_room(read(files)) == (2 * GB, GB)


def test_no_quota_is_no_limit_in_either_version() -> None:
    assert (
        cpu_quota(
            read(
                {
                    **ONE,
                    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                }
            )
        )
        is None
    )
    assert cpu_quota(read({**TWO, "/sys/fs/cgroup/cpu.max": "max 100000\n"})) is None


def test_a_quota_bounds_the_cores_and_leaves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, wanted in ((0.5, 1), (1.9, 1), (10_000.0, cores())):
        monkeypatch.setattr("swarmllm.adapters.limits.cpu_quota", lambda _, quota=quota: quota)
        assert cores() == wanted
        monkeypatch.undo()


NAMES = [
    "/proc/self/cgroup",
    "/proc/meminfo",
    *(
        f"/sys/fs/cgroup/{name}"
        for name in ("cpu.max", "memory.max", "memory.current", "memory.stat")
    ),
]


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.text(max_size=40) | st.sampled_from(["0::/\n", "0::/../..\n", "max\n", "0 0\n", "1 0"]),
    )
)
def test_no_text_in_these_files_raises(files: dict[str, str]) -> None:
    quota, room = cpu_quota(read(files)), memory_room(read(files))
    assert quota is None or quota > 0
    assert room is None or room[1] >= 0
    free_memory(read(files))
    total_memory(read(files))
