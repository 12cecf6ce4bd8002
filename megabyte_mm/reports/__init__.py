"""A run as one HTML page.

run.py      a run's folder: its metrics over all versions, its samples, its checkpoint
budget.py   how much may be embedded in a page
media.py    a file as an element: picture, player, text or bytes
page.py     the page, styled by page.css
"""
