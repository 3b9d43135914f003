"""The report as one HTML file that needs no network and no server.

Plain string functions and two asset files instead of a template engine: the page is a handful of
tables and charts whose logic is Python anyway, and it keeps the dependencies as they are.
"""
