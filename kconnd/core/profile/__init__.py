"""Profiles: keys, values, rules, and the problems of a faulty file."""
