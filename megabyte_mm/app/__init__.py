"""The playground: a model in the browser, and as JSON endpoints. Needs the extra `app`.

limits.py          what one user may ask for
reading.py         uploaded files as streams, through reader_process.py
playground.py      the model, and what a user gives as requests of the generation
generating.py      continuations as they are generated
bits.py            bits per byte beside other coders, and the heatmap
display.py         all of it as HTML; page.css: its looks
page.py api.py     the page and its events; the JSON endpoints
uploads.py runs.py  the files that a request may name; the runs that users still want
server.py          the web server; only these four import gradio
open.py            from a checkpoint to a running server
"""
