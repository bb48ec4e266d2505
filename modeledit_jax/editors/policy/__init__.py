"""Policies that read a network and edit it at once."""
