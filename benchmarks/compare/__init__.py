"""Models trained side by side on the same data for the same time: an experiment, its runs, and what came of them."""
