"""Definitions as bytes: packed, signed, encrypted."""
