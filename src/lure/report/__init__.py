"""Reports: tables, plots, one sentence and one page on runs, read from their ledgers alone.

Import from the modules themselves: those that draw need matplotlib, and half a second that no others have to wait.
"""
