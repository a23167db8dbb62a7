"""Use the installed wheel as a newcomer would: import, list, encode, decode, caption, separate."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    command = sys.argv[1]
    begin = time.perf_counter()
    import ossicle.runtime.stage

    assert "torch" not in sys.modules
    assert "site-packages" in str(ossicle.runtime.stage.__file__)
    print(f"import ossicle.runtime: {time.perf_counter() - begin:.2f} s")
    from ossicle.runtime.scene.mix import demo_scene

    audio, _ = demo_scene(seed=1)
    signal = np.asarray(audio).reshape(-1)
    soundfile.write("in.wav", signal, 16_000)
    names = {m["name"] for m in json.loads(run(command, "models", "--json"))}
    print("models:", ", ".join(sorted(names)))
    run(command, "encode", "in.wav", "a.osc", "--kbps", "3")
    run(command, "decode", "a.osc", "back.wav")
    assert soundfile.info("back.wav").frames == len(signal)
    run(command, "caption", "in.wav", "-f", "vtt", "-o", "in.vtt")
    assert Path("in.vtt").read_text().startswith("WEBVTT\n")
    run(command, "separate", "in.wav", "--query", "speech", "-o", "speech.wav")
    assert soundfile.info("speech.wav").frames == len(signal)
    run(command, "verify", "codec-16k")
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
