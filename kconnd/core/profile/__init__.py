"""What people write: the keys of a profile, their values, and what is wrong with them."""
