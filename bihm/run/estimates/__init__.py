"""Estimates of whole splits: by many samples, of parts of rows, of several machines, and their files."""
