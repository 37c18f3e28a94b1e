"""What the table of a relay's load says of each reservation and each circuit."""

from __future__ import annotations

from scripts.relay_load import MIB, Load, Rate, page, slope


def load(reservations: int, circuits: int = 0) -> Load:
    """A relay that pays 3 s an hour, 256 KiB and 400 bytes/s for a reservation; 4 s, 32 KiB and
    1,000 bytes/s for a circuit."""
    return Load(
        reservations,
        circuits,
        20 + 3.0 * reservations + 4.0 * circuits,
        140 * MIB + 256 * 1024 * reservations + 32 * 1024 * circuits,
        400.0 * reservations + 1_000.0 * circuits,
    )


LOADS = [load(0), load(10), load(100), load(100, 10), load(100, 50)]


def test_the_slope_is_that_of_the_line_through_the_figures() -> None:
    assert round(slope(LOADS[:3], "cpu_s_per_hour", "reservations"), 6) == 3
    assert round(slope(LOADS[2:], "bytes_per_s", "circuits"), 6) == 1_000


def test_the_table_has_a_row_for_each_load_and_tells_reservations_from_circuits() -> None:
    lines = page(LOADS, load(0), {"a circuit": Rate(0.25, 0.04)})
    assert "Alone it has 140 MiB and spends 20 s of processor time an hour." in lines
    assert "| 100 | 50 | 520 | 166.6 | 90000 |" in lines
    assert "| **each reservation** | | **3.0** | **256 KiB** | **400** |" in lines
    assert "| **each circuit** | | **4.0** | **32 KiB** | **1000** |" in lines
    assert "| a circuit | 0.25 | 0.040 |" in lines
