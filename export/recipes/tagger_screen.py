"""Which recordings of a folder a teacher takes for one of our classes, and must not be negatives.

    python -m ossicle.export.recipes.tagger_screen --teacher yamnet.tflite --names CSV FOLDER

YAMNet hears every second; a file is named if any class of AudioSet that may be one of ours reaches
the threshold once.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

MEANT: Final = re.compile(
    "dog|bark|rain|wave|ocean|baby|cry|clock|tick|sneez|helicop|chainsaw|rooster|fire|crackl|"
    "alarm|siren|horn|honk|bell|telephone|ring|beep|buzzer|smoke|thunder|waterfall|ambulance|"
    "police|chicken|cowbell|chime|whoop|yip|howl",
    re.IGNORECASE,
)
"""AudioSet's classes that are ours or sound like them."""

SECOND: Final = 15_600  # samples that YAMNet hears at once


def suspects(interpreter: Any, columns: Sequence[int], path: Path, threshold: float) -> bool:
    """Whether one of ``columns`` of the teacher's scores reaches ``threshold`` in ``path``."""
    x, _ = soundfile.read(path, dtype="float32", always_2d=True)
    mono = x.mean(axis=1)
    entry = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]["index"]
    for start in range(0, max(1, min(len(mono), 20 * SECOND)), SECOND):
        part = np.zeros(SECOND, np.float32)
        heard = mono[start : start + SECOND]
        part[: len(heard)] = heard / max(0.05, float(np.max(np.abs(heard), initial=0.0)))
        interpreter.set_tensor(entry, part)
        interpreter.invoke()
        if interpreter.get_tensor(exit_)[0][list(columns)].max() >= threshold:
            return True
    return False


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the names of the files to leave out, one a line."""
    from ai_edge_litert.interpreter import Interpreter

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True, help="yamnet_class_map.csv")
    parser.add_argument("--threshold", type=float, default=0.25)
    asked = parser.parse_args(arguments)
    with asked.names.open(newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    columns = [i for i, name in enumerate(names) if MEANT.search(name)]
    interpreter = Interpreter(model_path=str(asked.teacher), num_threads=1)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [SECOND])
    interpreter.allocate_tensors()
    for path in sorted(asked.folder.rglob("*.flac")):
        if suspects(interpreter, columns, path, asked.threshold):
            print(path.name, flush=True)


if __name__ == "__main__":
    main()
