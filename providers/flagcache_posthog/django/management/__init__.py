"""The project's command."""
