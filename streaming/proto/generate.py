"""Make the stubs from ``ossicle.proto`` and keep the lock of field numbers.

``python -m ossicle.streaming.proto.generate`` writes; with ``--check`` it only compares and
exits 1 where something is out of date. Needs grpcio-tools 1.76.0 (stubs of newer releases refuse
protobuf 6).
"""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
STUBS = ("ossicle_pb2.py", "ossicle_pb2.pyi", "ossicle_pb2_grpc.py")
LOCK = "numbers.lock"


def generate(out: Path) -> dict[str, str]:
    """Return the text of each stub made from the proto as it stands, made under ``out``."""
    import grpc_tools
    from grpc_tools import protoc

    root = out / "in" / "ossicle" / "streaming" / "proto"
    root.mkdir(parents=True)
    shutil.copy(HERE / "ossicle.proto", root)
    well_known = importlib.resources.files(grpc_tools) / "_proto"
    (out / "made").mkdir()
    code = protoc.main(
        [
            "protoc",
            f"-I{out / 'in'}",
            f"-I{well_known}",
            f"--python_out={out / 'made'}",
            f"--pyi_out={out / 'made'}",
            f"--grpc_python_out={out / 'made'}",
            "ossicle/streaming/proto/ossicle.proto",
        ]
    )
    if code:
        raise RuntimeError(f"protoc left with {code}; its messages are above")
    made = out / "made" / "ossicle" / "streaming" / "proto"
    return {name: "# mypy: ignore-errors\n" + (made / name).read_text() for name in STUBS}


def numbers() -> dict[str, str]:
    """Return every field and enum number of the committed stubs: ``Message.7`` to name and type."""
    from google.protobuf.descriptor import FieldDescriptor

    from ossicle.streaming.proto import ossicle_pb2

    kinds = {v: k[5:].lower() for k, v in vars(FieldDescriptor).items() if k.startswith("TYPE_")}
    found: dict[str, str] = {}

    def visit(message: object) -> None:
        for field in message.fields:  # type: ignore[attr-defined]
            many = "repeated " if field.is_repeated else ""
            found[f"{field.containing_type.full_name}.{field.number}"] = (
                f"{field.name} {many}{kinds[field.type]}"
            )
        for enum in message.enum_types:  # type: ignore[attr-defined]
            found.update({f"{enum.full_name}.{v.number}": v.name for v in enum.values})
        for nested in message.nested_types:  # type: ignore[attr-defined]
            visit(nested)

    file = ossicle_pb2.DESCRIPTOR
    for message in file.message_types_by_name.values():
        visit(message)
    for enum in file.enum_types_by_name.values():
        found.update({f"{enum.full_name}.{v.number}": v.name for v in enum.values})
    return found


def read_lock(text: str) -> dict[str, str]:
    """Return the numbers given out so far."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split(" ", 1) for line in lines)


def reused(lock: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return a sentence for each number that now means something else.

    >>> reused({"M.1": "a int32"}, {"M.1": "b int32"})
    ['M.1 was "a int32" and is "b int32": give the new one a new number']
    """
    return [
        f'{key} was "{lock[key]}" and is "{value}": give the new one a new number'
        for key, value in now.items()
        if key in lock and lock[key] != value
    ]


def write_lock(lock: dict[str, str], now: dict[str, str]) -> str:
    """Return the lock's text with today's numbers added; nothing ever leaves it."""
    lines = [f"{key} {value}" for key, value in sorted({**now, **lock}.items())]
    return "# Every number ever given out. Lines are added, never changed or removed.\n" + (
        "\n".join(lines) + "\n"
    )


def main(arguments: list[str]) -> int:
    """Write the stubs and the lock, or with ``--check`` compare them."""
    with tempfile.TemporaryDirectory() as out:
        stubs = generate(Path(out))
    if "--check" in arguments:
        stale = [n for n, text in stubs.items() if (HERE / n).read_text() != text]
        problems = reused(read_lock((HERE / LOCK).read_text()), numbers())
        print("\n".join([*(f"{name} is out of date" for name in stale), *problems]) or "up to date")
        return int(bool(stale or problems))
    for name, text in stubs.items():
        (HERE / name).write_text(text)
    lock = HERE / LOCK
    known = read_lock(lock.read_text()) if lock.exists() else {}
    lock.write_text(write_lock(known, numbers()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
