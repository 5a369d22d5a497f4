"""Holds the management command."""
