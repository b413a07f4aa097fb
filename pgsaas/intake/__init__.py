"""Bringing use and balances in from files: lines, what they mean, and batches of them."""
