"""Train the query encoder: which of the known sounds a short phrase means, or none of them.

A linear model over hashed words and letter groups, trained on the synonyms below in every-day
wordings and, where a folder with ``captions/*.csv`` is at hand, on pieces of human captions:
those with a known word as that sound, the others as nothing known.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.export.recipes.separator_data import GROUPS, LABELS
from ossicle.runtime.phrases import phrase_vector, stem, words_of

SIZE = 2048  # buckets of a phrase vector
UNKNOWN = "unknown"

SYNONYMS: Mapping[str, str] = {
    "speech": (
        "speech; voice; voices; talking; a person talking; people talking; man speaking; "
        "woman speaking; child speaking; conversation; dialogue; someone speaking; a man "
        "talking; a woman talking; human voice; spoken words; speaker; talker; narration; "
        "chatter; human speech; the person speaking; what they say; people; person; man; "
        "woman; men; women; words; my friend"
    ),
    "dog_bark": (
        "dog bark; dog; dogs; a dog; barking; dog barking; puppy; puppy barking; woof; "
        "hound; dogs barking; bark; canine; yelping; the neighbour's dog; dog growling; "
        "howling dog"
    ),
    "rain": (
        "rain; raining; rainfall; rain falling; rain drops; raindrops; heavy rain; "
        "drizzle; downpour; rain on a roof; pouring rain; rainstorm; shower of rain"
    ),
    "sea_waves": (
        "sea waves; waves; sea; ocean; ocean waves; surf; waves crashing; beach; waves "
        "breaking on the shore; seaside; seashore; waves lapping; crashing waves"
    ),
    "baby_cry": (
        "baby cry; baby crying; crying baby; baby; infant; infant crying; the baby; "
        "crying; newborn crying; babies; child crying; toddler crying; sobbing; wailing "
        "baby"
    ),
    "clock_tick": (
        "clock tick; clock; ticking; clock ticking; tick tock; wall clock; watch ticking; "
        "ticking clock; timer ticking; tick"
    ),
    "sneeze": "sneeze; sneezing; person sneezing; someone sneezes; achoo; sneezes; man sneezing",
    "helicopter": (
        "helicopter; chopper; helicopter flying; rotor; rotor blades; helicopters; "
        "helicopter hovering; rotorcraft"
    ),
    "chainsaw": (
        "chainsaw; chain saw; saw; sawing; chainsaw cutting wood; power saw; cutting down "
        "a tree; sawing wood; motor saw"
    ),
    "rooster": (
        "rooster; crowing; rooster crowing; cock; cockerel; cock-a-doodle-doo; chicken; "
        "rooster crows; hen; crow of a rooster"
    ),
    "fire_crackling": (
        "fire crackling; crackling fire; fire; campfire; fireplace; bonfire; flames; "
        "crackling; burning wood; logs burning; fire burning"
    ),
    "drums": (
        "drums; drum; drum kit; percussion; drummer; drumming; beat; snare; kick drum; "
        "hi-hat; cymbals; tabla"
    ),
    "bass": "bass; bass guitar; bassist; electric bass; bass line; double bass",
    "guitar": (
        "guitar; guitars; electric guitar; acoustic guitar; guitarist; strumming; guitar "
        "strumming; guitar solo"
    ),
    "piano": "piano; keyboard; pianist; electric piano; grand piano; piano playing; keys",
    "strings": (
        "strings; string section; violin; violins; cello; orchestra; choir; synth pad; "
        "string ensemble; fiddle"
    ),
    "winds": (
        "winds; flute; organ; woodwind; pipe; harmonica; wind instrument; pan flute; "
        "woodwinds"
    ),
    "other_music": (
        "synthesizer; synth; electronic music; samples; sound effects; xylophone; loop"
    ),
    "smoke_alarm": (
        "smoke alarm; smoke detector; fire alarm; smoke alarm beeping; fire detector; "
        "smoke alarms"
    ),
    "co_alarm": (
        "co alarm; carbon monoxide alarm; carbon monoxide detector; gas alarm; gas "
        "detector; co detector"
    ),
    "siren": (
        "siren; sirens; police siren; ambulance; ambulances; ambulance siren; fire "
        "engine; fire truck; police car; emergency vehicle; emergency siren; wailing "
        "siren; fire engine siren"
    ),
    "car_horn": (
        "car horn; horn; honking; horns; car honking; honk; beeping car; hooting; truck "
        "horn; vehicle horn; vehicle horn honking"
    ),
    "doorbell": (
        "doorbell; door bell; ding dong; someone at the door; door chime; chime; ringing "
        "doorbell"
    ),
    "phone_ring": (
        "phone ring; telephone; phone; phone ringing; ringtone; telephone ringing; mobile "
        "phone; cell phone; ringing phone; my phone"
    ),
    "appliance_beep": (
        "appliance beep; beep; beeping; microwave; microwave beeping; oven timer; washing "
        "machine beep; dishwasher beep; beeps; appliance"
    ),
    "alarm_clock": (
        "alarm clock; wake up alarm; alarm clock ringing; bedside alarm; morning alarm"
    ),
    "noise": (
        "noise; background noise; hiss; hum; static; white noise; fan; air conditioning; "
        "background; room noise; wind noise; hissing; humming"
    ),
    "music": (
        "music; song; songs; a band; band; musical instruments; instruments; melody; "
        "tune; music playing; instrumental; background music; the band"
    ),
    "alarm": (
        "alarm; alarms; alert; alerts; warning; warning sounds; warnings; any alarm; "
        "alarm ringing; emergency; alarm sounds; safety alarms"
    ),
    "animal": "animal; animals; pets; pet; farm animals; animal sounds",
    "water": "water; water flowing; flowing water; splashing; splashing water",
    "engine": (
        "engine; motor; vehicle engine; engine running; machine; machines; machinery; "
        "motors; engines; traffic; vehicle; vehicles; aircraft"
    ),
    "everything": "everything; all; all sounds; anything; every sound; the whole mix",
}  # fmt: skip
_CARRIERS = (
    "{}", "the {}", "a {}", "sound of {}", "the sound of a {}", "{} noise", "{} sounds",
    "only the {}", "i want to hear the {}", "loud {}", "{} in the background", "{} nearby",
    "a {} in the distance",
)  # fmt: skip
_STRANGERS = (
    "quantum physics; blue; happiness; table; tax return; football; election; pizza; the moon; "
    "purple elephant; keyboard shortcut; mathematics; red; chair; hello; asdf qwerty; xyzzy; "
    "applause; clapping; laughter; laughing; footsteps; glass breaking; keyboard typing; typing; "
    "cat meowing; cat; bird; birds singing; frog; insects; cow; horse; sheep; goat; duck; pig; "
    "train; airplane; plane; boat; motorcycle; race car; thunder; wind; toilet flush; door slam; "
    "door; gun shot; gunshots; explosion; fireworks; whistle; whistling; snoring; coughing; cough; "
    "breathing; burping; hiccup; sewing machine; vacuum cleaner; drill; hammer; scissors; spray; "
    "frying food; dishes; paper; zipper; bicycle bell; church bells; skateboard; basketball; "
    "waterfall from far; bees; mosquito; owl; snake; wolf; tiger; lion; elephant; unknown thing; "
    "washing machine; dishwasher; blender; hair dryer; lawn mower; printer; camera; coins; "
    "a glass; windows; breaking; slamming; popcorn; water tap; bath; tractor"
)


@dataclass(frozen=True)
class QueryWeights:
    """What a bundle carries: ``weight`` [SIZE, intents + 1], the last column is the unknown."""

    intents: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]  # labels of each intent
    phrases: tuple[tuple[str, ...], ...]
    weight: NDArray[np.float16]
    bias: NDArray[np.float32]


def examples(captions: Sequence[Path], rng: np.random.Generator) -> list[tuple[str, str]]:
    """(phrase, intent) pairs to train on."""
    return listed() + caption_examples(captions, rng)


def listed() -> list[tuple[str, str]]:
    """The pairs written down here: every synonym and every stranger, in every carrier."""
    pairs: list[tuple[str, str]] = []
    for intent, joined in SYNONYMS.items():
        for phrase in [part.strip() for part in joined.split(";")] + [intent.replace("_", " ")]:
            pairs += [(carrier.format(phrase), intent) for carrier in _CARRIERS]
    for phrase in _STRANGERS.split("; "):
        pairs += [(carrier.format(phrase), UNKNOWN) for carrier in _CARRIERS]
    return pairs


def caption_examples(
    captions: Sequence[Path], rng: np.random.Generator, most: int = 400
) -> list[tuple[str, str]]:
    """Pieces of human captions that name exactly one known sound, or none."""
    stems: dict[str, set[str]] = {}
    for intent, joined in SYNONYMS.items():
        for phrase in joined.split(";"):
            for word in words_of(phrase):
                stems.setdefault(stem(word), set()).add(intent)
    found: dict[str, list[str]] = {}
    pieces = re.compile(r",| and | while | then | as | followed by | with ")
    for path in captions:
        with path.open(newline="", encoding="utf-8") as file:
            texts = (
                text
                for row in csv.DictReader(file)
                for column, text in row.items()
                if column.startswith("caption")
            )
            for text in texts:
                for piece in pieces.split(text.lower()):
                    words = [stem(word) for word in words_of(piece)]
                    if not 1 <= len(words) <= 6:
                        continue
                    named = [stems[word] for word in words if word in stems]
                    if not named:
                        found.setdefault(UNKNOWN, []).append(piece.strip())
                    elif len(same := set.intersection(*named)) == 1:
                        found.setdefault(next(iter(same)), []).append(piece.strip())
    pairs = []
    for intent, said in sorted(found.items()):
        unique = sorted(set(said))
        limit = most * 10 if intent == UNKNOWN else most
        chosen = rng.permutation(len(unique))[:limit]
        pairs += [(unique[i], intent) for i in chosen]
    return pairs


def train_queries(
    data: Path | None = None, *, seed: int = 0, steps: int = 2000, size: int = SIZE
) -> QueryWeights:
    """Train the linear encoder; a minute on one core."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    captions = sorted((data / "captions").glob("*train*.csv")) if data else []
    pairs = examples(captions, rng)
    intents = (*SYNONYMS, UNKNOWN)
    x = torch.from_numpy(np.stack([phrase_vector(text, size) for text, _ in pairs]))
    y = torch.tensor([intents.index(intent) for _, intent in pairs])
    share = torch.bincount(y, minlength=len(intents)).float().clamp(min=1)
    weight_of = (share.mean() / share).sqrt().clamp(0.3, 3.0)
    layer = torch.nn.Linear(size, len(intents))
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    # A third of what is drawn is listed, and a stranger there counts in full: captions hold many
    # more phrases of nothing known, among which "glass breaking" was learnt as sea waves.
    written = len(listed())
    each = weight_of[y]
    each[:written] = each[:written].clamp(min=1.0)
    for step in range(steps):
        drawn = rng.integers(0, len(x), 384)
        drawn[:128] = rng.integers(0, written, 128)
        pick = torch.from_numpy(drawn)
        noisy = x[pick] * (torch.rand(384, size) > 0.15)
        wrong = torch.nn.functional.cross_entropy(layer(noisy), y[pick], reduction="none")
        loss = (wrong * each[pick]).mean()
        loss = loss + 2e-5 * layer.weight.square().sum()
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - step / steps) + 1e-4
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        weight = layer.weight.T.numpy().astype(np.float16)
        bias = layer.bias.numpy().astype(np.float32)
    known = intents[:-1]
    return QueryWeights(
        known,
        tuple(GROUPS.get(name, (name,)) for name in known),
        tuple(tuple(p.strip() for p in SYNONYMS[name].split(";")) for name in known),
        weight,
        bias,
    )


def accuracy(weights: QueryWeights, pairs: Sequence[tuple[str, str]], least: float = 0.5) -> float:
    """Share of phrases that are understood, or refused when unknown."""
    names = (*weights.intents, UNKNOWN)
    right = 0
    for text, intent in pairs:
        scores = phrase_vector(text, len(weights.weight)) @ weights.weight.astype(np.float32)
        scores = np.exp(scores + weights.bias - (scores + weights.bias).max())
        scores /= scores.sum()
        best = int(scores.argmax())
        said = names[best] if scores[best] >= least else UNKNOWN
        right += said == intent
    return right / max(1, len(pairs))


assert set(LABELS) | set(GROUPS) == set(SYNONYMS)
