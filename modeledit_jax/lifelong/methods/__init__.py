"""Lifelong editors: fine-tuning, hypernetworks, learned choice of layers."""
