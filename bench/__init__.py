"""Measures pgsaas against what PostgreSQL can do: `python -m bench` writes docs/performance.md.

A figure is a ratio to a baseline of the same run, so that it means the same on another machine. No
test asserts on time; what is deterministic (HOT updates, buffers, WAL bytes, plans) is a test.
"""
