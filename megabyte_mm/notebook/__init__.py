"""What notebooks show beyond figures; IPython and ipywidgets are imported where they are used.

live.py       a run's curve and samples while it trains
showing.py    continuations side by side: pictures, sounds with players, texts
sliders.py    temperature and top-p by hand
small.py      small models of the made-up media
"""
