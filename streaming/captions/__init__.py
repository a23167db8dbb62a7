"""Live captions of sounds: from frame scores to cues, and from cues to players."""
