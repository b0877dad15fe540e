"""Checkpoints that a disk or a foreign hand has changed: refused with the rows, redone where the user says so."""

from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import Place, Witness


def largest_checkpoint(place: Place) -> Path:
    return max((place.run_dir / "checkpoints").glob("*.checkpoint"), key=lambda path: path.stat().st_size)


def finished_without_output(place: Place, witness: Witness) -> Path:
    """Finish a run and leave only its checkpoints."""
    place.configure(witness.url)
    place.write_rows(400)
    assert place.run().code == 0
    place.output.unlink()
    return largest_checkpoint(place)


def test_a_flipped_bit_is_refused_with_the_row_and_salvaged_on_request(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=10)
    checkpoint = finished_without_output(place, witness)
    data = bytearray(checkpoint.read_bytes())
    at = data.index(b'"output":"In short', len(data) // 2) + 20
    line = data.rindex(b'{"row":', 0, at)
    row = int(data[line + 7 : data.index(b",", line)])
    data[at] ^= 0x04
    checkpoint.write_bytes(data)

    for _ in range(2):  # refused again, for nothing was changed
        done = place.run()
        assert (done.code, done.out) == (5, ""), done.err
        assert "Traceback" not in done.err
        assert f"{checkpoint.name} is damaged at byte " in done.err
        assert "without a valid record are 1 of its" in done.err
        assert f" rows: {row}. " in done.err
        assert "--salvage" in done.err
        assert not place.output.exists()
        assert checkpoint.read_bytes() == data
    assert witness.stats()["requests"] == 400

    done = place.run("--salvage")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(400)
    assert witness.stats()["requests"] == 401
    assert checkpoint.with_name(checkpoint.name + ".damaged-1").read_bytes() == data


def test_a_torn_tail_is_cut_and_redone(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=10)
    checkpoint = finished_without_output(place, witness)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: data.rindex(b'{"row":') + 30] + b"\0" * 4096)
    done = place.run()
    assert done.code == 0, done.err
    assert f"{checkpoint.name}: cut " in done.err
    assert place.output.read_bytes() == reference(400)
    assert witness.stats()["requests"] == 401


def test_a_lost_checkpoint_is_made_anew(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=10)
    checkpoint = finished_without_output(place, witness)
    rows = checkpoint.read_bytes().count(b'{"row":')
    checkpoint.unlink()
    assert place.run().code == 0
    assert place.output.read_bytes() == reference(400)
    assert witness.stats()["requests"] == 400 + rows


def test_a_damaged_manifest_or_plan_is_refused(place: Place, simulator: Callable[..., Witness]) -> None:
    finished_without_output(place, simulator())
    for name in ("plan", "manifest.json"):
        whole = (place.run_dir / name).read_bytes()
        (place.run_dir / name).write_bytes(whole[: len(whole) // 2])
        done = place.run()
        assert (done.code, len(done.lines)) == (5, 1), done.err
        assert f"{name} is damaged" in done.err
        (place.run_dir / name).write_bytes(whole)
    assert place.run().code == 0
