"""What the recipes share: a folder of audio, a seeded loader, losses, a resumable loop."""
