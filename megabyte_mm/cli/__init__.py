"""The commands that are not Lightning's: `megabyte-mm NAME` calls the function NAME of the module NAME.

Their signatures and docstrings are their command lines and help.
"""
