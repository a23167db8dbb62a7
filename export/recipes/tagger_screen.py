"""Which recordings of a folder a teacher takes for one of our classes, and must not be negatives.

    python -m ossicle.export.recipes.tagger_screen --teacher yamnet.tflite --names CSV FOLDER

YAMNet hears every second; a file is named if any class of AudioSet that may be one of ours reaches
the threshold once. With ``--by-label`` the labels it might be follow, after a tab: such a file can
still teach what the other labels are not. Where none follow, it is best left out. With ``--named``
the folder's name is believed where it says what the sounds are not: a blip may well be taken for a
smoke alarm, which is why it is wanted as a negative. Only AudioSet's own classes count then.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

MEANT: Final = re.compile(
    "dog|bark|rain|wave|ocean|baby|cry|clock|tick|sneez|helicop|chainsaw|rooster|fire|crackl|"
    "alarm|siren|horn|honk|bell|telephone|ring|beep|buzzer|smoke|thunder|waterfall|ambulance|"
    "police|chicken|cowbell|chime|whoop|yip|howl",
    re.IGNORECASE,
)
"""AudioSet's classes that are ours or sound like them."""

LIKE: Final = {
    "dog_bark": "Bark|Dog|Yip|Bow-wow|Howl|Canidae, dogs, wolves",
    "rain": "Rain|Raindrop|Rain on surface|Waterfall|Stream|White noise|Pink noise",
    "sea_waves": "Waves, surf|Ocean|Wind|Stream|White noise|Pink noise",
    "baby_cry": "Baby cry, infant cry|Crying, sobbing|Whimper|Child speech, kid speaking",
    "clock_tick": "Tick|Tick-tock|Clock|Mechanisms|Ratchet, pawl",
    "sneeze": "Sneeze|Cough|Sniff",
    "helicopter": "Helicopter|Aircraft|Engine|Propeller, airscrew",
    "chainsaw": "Chainsaw|Engine|Power tool|Motorcycle|Lawn mower",
    "rooster": "Crowing, cock-a-doodle-doo|Chicken, rooster|Fowl|Livestock, farm animals, "
    "working animals",
    "fire_crackling": "Fire|Crackle|Rustle|Crumpling, crinkling",
    "smoke_alarm": "Smoke detector, smoke alarm|Fire alarm|Alarm|Beep, bleep|Buzzer",
    "co_alarm": "Smoke detector, smoke alarm|Fire alarm|Alarm|Beep, bleep|Buzzer",
    "siren": "Siren|Police car (siren)|Ambulance (siren)|Fire engine, fire truck (siren)|"
    "Civil defense siren|Theremin|Alarm",
    "car_horn": "Vehicle horn, car horn, honking|Toot|Air horn, truck horn|Train horn|Foghorn",
    "doorbell": "Doorbell|Ding-dong|Ding|Bell|Chime",
    "phone_ring": "Telephone bell ringing|Ringtone|Telephone|Telephone dialing, DTMF|Jingle bell",
    "appliance_beep": "Beep, bleep|Buzzer|Alarm|Microwave oven|Dial tone|Busy signal",
    "alarm_clock": "Alarm clock|Alarm|Beep, bleep|Buzzer|Bell|Ringtone",
}
"""AudioSet's classes, one after the other, that each of our labels might be taken for."""

OWN: Final = {
    "dog_bark": "Bark|Dog|Yip|Bow-wow",
    "rain": "Rain|Raindrop|Rain on surface",
    "sea_waves": "Waves, surf|Ocean",
    "baby_cry": "Baby cry, infant cry",
    "clock_tick": "Tick-tock|Clock",
    "sneeze": "Sneeze",
    "helicopter": "Helicopter",
    "chainsaw": "Chainsaw",
    "rooster": "Crowing, cock-a-doodle-doo|Chicken, rooster",
    "fire_crackling": "Fire|Crackle",
    "smoke_alarm": "Smoke detector, smoke alarm|Fire alarm",
    "co_alarm": "Smoke detector, smoke alarm|Fire alarm",
    "siren": "Siren|Police car (siren)|Ambulance (siren)|Fire engine, fire truck (siren)|"
    "Civil defense siren",
    "car_horn": "Vehicle horn, car horn, honking|Air horn, truck horn",
    "doorbell": "Doorbell|Ding-dong",
    "phone_ring": "Telephone bell ringing|Ringtone",
    "appliance_beep": "Beep, bleep|Microwave oven",
    "alarm_clock": "Alarm clock",
}
"""AudioSet's classes, one after the other, that are each of our labels and nothing else."""

SECOND: Final = 15_600  # samples that YAMNet hears at once


def open_teacher(path: Path) -> Any:
    """The interpreter of ``path``, which hears :data:`SECOND` samples at once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [SECOND])
    interpreter.allocate_tensors()
    return interpreter


def read_names(path: Path) -> list[str]:
    """The teacher's classes in their order."""
    with path.open(newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


def heard(interpreter: Any, mono: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest score [521] that each of the teacher's classes reaches in ``mono`` [T]."""
    entry = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]["index"]
    best = np.zeros(521, np.float32)
    for start in range(0, max(1, min(len(mono), 20 * SECOND)), SECOND):
        part = np.zeros(SECOND, np.float32)
        piece = mono[start : start + SECOND]
        part[: len(piece)] = piece / max(0.05, float(np.max(np.abs(piece), initial=0.0)))
        interpreter.set_tensor(entry, part)
        interpreter.invoke()
        np.maximum(best, interpreter.get_tensor(exit_)[0], out=best)
    return best


def labels_like(
    best: NDArray[np.float32],
    names: Sequence[str],
    threshold: float,
    classes: Mapping[str, str] = LIKE,
) -> tuple[str, ...]:
    """Our labels for which one of the teacher's ``classes`` reaches ``threshold``."""
    score = dict(zip(names, best.tolist(), strict=True))
    return tuple(
        label
        for label, like in classes.items()
        if max(score.get(name, 0.0) for name in like.split("|")) >= threshold
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the names of the files to leave out, one a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True, help="yamnet_class_map.csv")
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--by-label", type=float, metavar="THRESHOLD", help="say which labels")
    parser.add_argument("--named", action="store_true", help="believe what the folder says")
    asked = parser.parse_args(arguments)
    names = read_names(asked.names)
    columns = [i for i, name in enumerate(names) if MEANT.search(name)]
    interpreter = open_teacher(asked.teacher)
    for path in sorted(asked.folder.rglob("*.flac")):
        x, _ = soundfile.read(path, dtype="float32", always_2d=True)
        best = heard(interpreter, x.mean(axis=1))
        if asked.named:
            if maybe := labels_like(best, names, asked.threshold, OWN):
                print(path.name + "\t" + ",".join(maybe), flush=True)
            continue
        if best[columns].max() < asked.threshold:
            continue
        like = labels_like(best, names, asked.by_label) if asked.by_label else ()
        print(path.name + ("\t" + ",".join(like) if like else ""), flush=True)


if __name__ == "__main__":
    main()
