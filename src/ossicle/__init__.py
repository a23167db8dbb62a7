"""Ossicle: a low-latency streaming and edge runtime for audio models."""

from __future__ import annotations
