"""The runner plays the questions in turn with all contestants, and makes tables and plots of the readings."""
