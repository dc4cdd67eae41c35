"""The forms that a candidate can be written in."""
