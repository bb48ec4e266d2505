"""Files that users name: read with care, and what is wrong with one is said in one line."""
