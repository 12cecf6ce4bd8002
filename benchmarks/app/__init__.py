"""The playground under load: many clients at once, many of them hostile.

__main__.py   the program: starts the server, prints answers and memory over time
clients.py    what a client asks for, and how the answers are counted
requests.py   good, broken and hostile requests of a model of pictures, sound or text
"""
