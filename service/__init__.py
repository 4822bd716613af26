"""Everturn: a self-hosted, multi-user chat backend that never loses a turn."""

__version__ = "0.1.0"
