"""Reports on runs, from their ledgers alone: tables, plots, a verdict in one sentence, and a page.

Import from the modules themselves. Those that draw (plots, page) need matplotlib; the others start faster without it.
"""
